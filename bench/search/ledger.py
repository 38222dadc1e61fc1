"""What the ledger costs: how long it takes to open with many trials in it, and to write one more.

Usage: ledger.py [--quick]; prints, and appends a row to results/ledger.jsonl.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from modelmill.execute.message import Message
from modelmill.search.ledger.ledger import Ledger
from modelmill.search.samplers.random import Random
from modelmill.search.search import Study, search
from modelmill.space import Dimension
from modelmill.spec import Budget, Goal
from modelmill.store.database import Database
from modelmill.trial import Point, Trial

RESULTS = Path(__file__).with_name("results") / "ledger.jsonl"
POINTS = 10
"""Reports of a trial that is written for the figure."""
TIMED = 500
"""Trials that are written for the figure."""


def trial(number: int, points: int = POINTS) -> Trial:
    """A finished trial of usual size."""
    curve = tuple(Point(i, {"valid_accuracy": 0.5 + i / 100, "train_loss": 1.0 / (i + 1)}) for i in range(points))
    settings = {f"arch.mlp.setting_{i}": number / (i + 7) for i in range(8)}
    return Trial(
        number, "done", settings, seed=number, metrics={"accuracy": 0.9}, costs={"size_bytes": 1e4}, curve=curve
    )


def fill(database: Database, study: int, count: int, points: int) -> None:
    """So many trials of one study, in one transaction."""
    Ledger.open(database, f"key {points}", {})[0].close("interrupted")
    with database.writing() as connection:
        for number in range(count):
            body = msgspec.json.encode(trial(number, points)).decode()
            connection.execute(
                "INSERT INTO trials (study_id, number, state, body) VALUES (:study, :number, 'done', :body)",
                {"study": study, "number": number, "body": body},
            )


def written(ledger: Ledger, first: int) -> None:
    """What one trial costs the ledger: its suggestion, its reports, its result."""
    whole = trial(first)
    running = msgspec.structs.replace(whole, state="running", curve=())
    ledger.write(running, 1.0)
    for i, point in enumerate(whole.curve):
        ledger.report(msgspec.structs.replace(running, curve=whole.curve[:i]), point)
    ledger.write(whole, 1.0)


class Instant:
    """Trials that take no time."""

    free = 1

    def __init__(self) -> None:
        self.jobs: list[str] = []

    def submit(self, job: str, payload: Any) -> None:
        self.jobs.append(job)
        self.free = 0

    def messages(self, timeout_s: float) -> Any:
        self.free = 1
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            yield Message(job, "result", {"metrics": {"accuracy": 0.5}})

    def cancel(self, job: str, grace_s: float = 0.0) -> None:
        self.jobs = []

    def paused(self) -> Any:
        import contextlib

        return contextlib.nullcontext()


def timed(work: Any) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10,000 trials instead of 100,000")
    count = 10_000 if parser.parse_args().quick else 100_000
    with tempfile.TemporaryDirectory() as folder:
        fill(Database(f"sqlite:///{folder}/ledger.db"), 1, count, 0)
        fill(Database(f"sqlite:///{folder}/ledger.db"), 2, count, POINTS)
        database = Database(f"sqlite:///{folder}/ledger.db")
        plain = timed(lambda: Ledger.open(database, "key 0", {})[0].trials())
        curves = timed(lambda: Ledger.open(database, f"key {POINTS}", {})[0].trials())
        ledger = Ledger.open(database, "key 0", {})[0]
        opened = timed(lambda: Ledger.open(database, "key 0", {}))
        wrote = timed(lambda: [written(ledger, count + i) for i in range(TIMED)])
        database.close()
        looped_in = Database(f"sqlite:///{folder}/loop.db")
        study = Study(lambda choose: choose(Dimension("x", high=1.0)), Goal(maximize=("accuracy",)), Random(),
                      budget=Budget(trials=count // 10))  # fmt: skip
        other, _ = Ledger.open(looped_in, "key", {})
        looped = timed(lambda: list(search(study, Instant(), lambda r: {}, lambda a: "", other)))
        looped_in.close()
    row = {
        "trials": count,
        "open_s": round(opened[0], 4),
        "open_and_read_s": round(plain[0], 3),
        "open_and_read_cpu_s": round(plain[1], 3),
        "with_curves_s": round(curves[0], 3),
        "with_curves_cpu_s": round(curves[1], 3),
        "ms_a_trial": round(1000 * wrote[0] / TIMED, 3),
        "cpu_ms_a_trial": round(1000 * wrote[1] / TIMED, 3),
        "loop_trials": count // 10,
        "loop_ms_a_trial": round(1000 * looped[0] / (count // 10), 3),
        "loop_cpu_ms_a_trial": round(1000 * looped[1] / (count // 10), 3),
    }
    print(json.dumps(row, indent=2))
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
