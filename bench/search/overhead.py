"""What the search itself costs a trial, and how much faster two workers are than one.

    python bench/search/overhead.py samplers [--trials 200] [--seeds 10]   # processor ms a trial, by sampler
    python bench/search/overhead.py workers [--trials 40] [--seeds 5]      # trials a minute of 1 and of 2 workers

`samplers` runs the whole loop (suggestion, ledger on disk, judging) around trials that cost nothing, on the mill's own
space for wine and for digits, and counts this process's CPU seconds. `workers` searches digits for real, one after the
other in the same minutes, on a machine that does nothing else. A cell (what, case, seed) is a line of
`results/overhead.jsonl`; one that is there is not run again; `--show` prints what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from arms import Inline

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "overhead.jsonl"

Row = dict[str, Any]


def job_of(name: str) -> Any:
    from modelmill.recipe.look import look
    from modelmill.spec import read

    goal = {"maximize": "accuracy", "budget": "1000 trials"}
    return look(read({"data": {"method": "builtin", "name": name}, "goal": goal})).job


def samplers(trials: int, seed: int) -> Iterator[Row]:
    """CPU milliseconds of the search a trial, without the trial."""
    from modelmill.method import names

    for data in ("wine", "digits"):
        job = job_of(data)
        for name in names("sampler"):
            if name == "gradient":
                continue  # it refuses this space: some of its ranges have no derivative
            yield {"case": f"{name} on {data}", "trials": trials, "ms": _loop(job, name, trials, seed)}


def _loop(job: Any, sampler: str, trials: int, seed: int) -> float:
    from modelmill.method import decode
    from modelmill.search.ledger.ledger import Ledger
    from modelmill.search.search import Study, search
    from modelmill.spec import Budget, space
    from modelmill.store.database import Database

    random = np.random.default_rng(seed)

    def work(payload: Row) -> Iterator[Row]:
        good = sum(value for value in payload["settings"].values() if isinstance(value, float))
        for step in range(5):
            yield {"step": step + 1, "values": {"valid_accuracy": good + random.normal() / 10}}
        yield {"metrics": {"accuracy": good}, "costs": {"size_bytes": 1000.0}, "work": 1.0}

    study = Study(
        walk=space(job.spec),
        goal=job.spec.goal,
        sampler=decode("sampler", {"method": sampler}),
        seed=seed,
        budget=Budget(trials=trials),
    )
    with tempfile.TemporaryDirectory() as folder:
        ledger, _ = Ledger.open(Database(f"sqlite:///{folder}/ledger.db"), "overhead", {})
        started = time.process_time()
        count = sum(
            trial.state != "running"
            for trial in search(study, Inline(work), lambda result: {}, lambda artifact: "", ledger)
        )
        return (time.process_time() - started) / count * 1000


def workers(trials: int, seed: int) -> Iterator[Row]:
    """Trials a minute of the search of digits."""
    from modelmill.mill import build
    from modelmill.store.home import Home
    from modelmill.trial import Trial

    for count in (1, 2):
        spec = {
            "data": {"method": "builtin", "name": "digits"},
            "name": "digits",
            "goal": {"maximize": "accuracy", "budget": f"{trials} trials"},
            "seed": seed,
            "workers": count,
            "search": {"sampler": {"method": "random"}},
        }
        with tempfile.TemporaryDirectory() as folder:
            first, last = 0.0, 0.0
            for step in build(spec, Home(folder)):
                if isinstance(step, Trial):
                    first, last = first or time.monotonic(), time.monotonic()
        yield {"case": f"{count} workers", "trials": trials, "per_minute": 60 * trials / (last - first)}


def main() -> None:
    """Run what is asked for and not there yet, and show it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("samplers", "workers"))
    parser.add_argument("--trials", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    usual = {"samplers": (200, 10), "workers": (40, 5)}[arguments.what]
    trials, seeds = arguments.trials or usual[0], arguments.seeds or (2 if arguments.quick else usual[1])
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.touch()
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    known = {(row["what"], row["trials"], row["seed"]) for row in rows}
    for seed in () if arguments.show else range(seeds):
        if (arguments.what, trials, seed) in known:
            continue
        fresh = [
            {"what": arguments.what, "seed": seed, **row}
            for row in {"samplers": samplers, "workers": workers}[arguments.what](trials, seed)
        ]
        with RESULTS.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in fresh)
        rows += fresh
    show([row for row in rows if row["what"] == arguments.what and row["trials"] == trials])


def show(rows: list[Row]) -> None:
    """Mean and range by case, and the ratio of two workers to one."""
    figure = "ms" if rows and "ms" in rows[0] else "per_minute"
    by_case: dict[str, list[float]] = {}
    for row in rows:
        by_case.setdefault(row["case"], []).append(row[figure])
    for case, found in by_case.items():
        print(f"{case:28} {np.mean(found):8.2f} {figure} ({min(found):.2f} to {max(found):.2f}, {len(found)} seeds)")
    if "2 workers" in by_case:
        ratios = np.array(by_case["2 workers"]) / np.array(by_case["1 workers"])
        print(f"two workers do {ratios.mean():.2f} times the trials of one ({ratios.min():.2f} to {ratios.max():.2f})")


if __name__ == "__main__":
    main()
