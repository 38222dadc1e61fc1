"""Kills builds with real trainings at random instants, and compares their ledgers with that of a build left alone.

Usage: kills.py [--quick]; cells that are in results/kills.jsonl are not run again. A cell is one instant: the build is
begun in a home of its own, killed with SIGKILL, begun again with the same command, and runs to its end.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from msgspec.structs import replace

from modelmill.search.ledger.studies import studies, trials_of
from modelmill.store.home import Home
from modelmill.trial import Trial

RESULTS = Path(__file__).with_name("results") / "kills.jsonl"
SPEC = """
seed = 3
workers = 1
name = "digits"

[data]
method = "builtin"
name = "digits"

[goal]
maximize = "accuracy"
minimize = "size_kb"
budget = "10 trials"

[arch]
any = [ { method = "mlp", depth = { low = 1, high = 2 }, width = { low = 8, high = 64, log = true } },
        { method = "cnn", width = { low = 4, high = 8 }, depth = 2 } ]

[train]
method = "adam"
epochs = 6
learning_rate = { low = 1e-4, high = 1e-1, log = true }
"""


def build(home: Path, kill_after_s: float | None = None) -> tuple[float, str]:
    """Run the build in this home; how long it ran, and what it said last."""
    (home / "digits.toml").write_text(SPEC)
    env = {**os.environ, "MODELMILL_HOME": str(home / "home")}
    started = time.monotonic()
    command = [sys.executable, "-m", "modelmill.cli", "build", str(home / "digits.toml"), "--json"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            out, error = child.communicate(timeout=kill_after_s)
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
            child.communicate()
            return time.monotonic() - started, "killed"
    if child.returncode:
        raise RuntimeError(error[-2000:])
    return time.monotonic() - started, str(json.loads(out)["lineage"]["model"])


def ledger(home: Path) -> list[Trial]:
    """What must be equal of every trial of the first study: all but what was timed."""
    database = Home(home / "home").database
    study = studies(database)[-1]
    found = [
        replace(
            t, seconds=0.0, pick_s=0.0, measure_s=0.0, costs={k: v for k, v in t.costs.items() if "latency" not in k}
        )
        for t in trials_of(database, study.id)
    ]
    database.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5 instants instead of 20")
    instants = 5 if parser.parse_args().quick else 20
    RESULTS.parent.mkdir(exist_ok=True)
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    known = {row["instant"] for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        left = [instant for instant in range(instants) if instant not in known]
        if left:
            (whole_home := Path(folder) / "whole").mkdir()
            took_s, model = build(whole_home)
            whole = ledger(whole_home)
        for instant in left:
            share = random.Random(instant).uniform(0.05, 0.95)
            for attempt in itertools.count():
                (home := Path(folder) / f"{instant}-{attempt}").mkdir()
                at_s, said = build(home, share * took_s)
                if said == "killed":
                    break
                took_s = at_s  # the machine has become faster: it ended before its time
            stood = states(home)
            _, again = build(home)
            row = {
                "instant": instant,
                "killed_after_s": round(at_s, 2),
                "whole_s": round(took_s, 2),
                "trials_then": stood,
                "differ": [trial.number for trial, other in zip(ledger(home), whole, strict=True) if trial != other],
                "equal": ledger(home) == whole,
                "model_equal": again == model,
            }
            rows.append(row)
            with RESULTS.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)
    equal = sum(row["equal"] and row["model_equal"] for row in rows)
    print(f"{equal} of {len(rows)} ledgers and models equal those of the build that was left alone")


def states(home: Path) -> list[str]:
    """How the trials stand; none where it did not come so far."""
    if not (home / "home" / "modelmill.db").exists():
        return []
    database = Home(home / "home").database
    found = studies(database)
    trials = trials_of(database, found[0].id) if found else []
    database.close()
    return [trial.state for trial in trials]


if __name__ == "__main__":
    main()
