"""What stopping saves where there are several objectives: the same searches with a stopper and without, on four tasks.

Usage: stopping.py [--quick]; cells that are in results/stopping.jsonl are not run again. Every cell is one search for
quality and size with real trainings in this process, one thread, so that its CPU seconds are those of the search.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modelmill.execute.message import Message
from modelmill.method import decode
from modelmill.recipe.defaults import search as default_search
from modelmill.recipe.look import look
from modelmill.recipe.worker import worker
from modelmill.search.ledger import Ledger
from modelmill.search.pareto import front, hypervolume, objectives
from modelmill.search.search import Study, search
from modelmill.spec import Budget, Spec, read, space
from modelmill.store.database import Database

RESULTS = Path(__file__).with_name("results") / "stopping.jsonl"
ARMS = ("all", "stopped")
MLP = {"method": "mlp", "depth": {"low": 1, "high": 3}, "width": {"low": 4, "high": 128, "log": True}}
CNN = {"method": "cnn", "width": {"low": 4, "high": 16, "log": True}, "depth": {"low": 1, "high": 3}}
TASKS: dict[str, dict[str, Any]] = {
    "digits": {"arch": {"any": [CNN, MLP]}, "maximize": ["accuracy"], "folds": 1, "reference": 0.0},
    "breast_cancer": {"arch": MLP, "minimize": ["log_loss"], "folds": 5, "reference": 0.7},
    "wine": {"arch": MLP, "minimize": ["log_loss"], "folds": 5, "reference": 1.1},
    "diabetes": {"arch": MLP, "minimize": ["rmse"], "folds": 5, "reference": 80.0},
}
"""Set: bodies, quality, folds, and the loss of a model that knows nothing: the reference point, with 1 MB."""
LARGEST_KB, SMALLEST_KB = 1000.0, 0.5


class Inline:
    """Runs trials in this process, a step a call."""

    def __init__(self, run: Any) -> None:
        self.run, self.job, self.steps, self.last, self.said = run, "", iter(()), None, []
        self.since = 0.0

    @property
    def free(self) -> int:
        return 0 if self.job else 1

    def submit(self, job: str, payload: Any) -> None:
        self.job, self.steps, self.since = job, self.run(payload), time.monotonic()

    def messages(self, timeout_s: float) -> Iterator[Message]:
        said, self.said = self.said, []
        yield from said
        if not self.job:
            return
        job = self.job
        try:
            self.last = next(self.steps)
        except StopIteration:
            self.job = ""
            yield Message(job, "result", self.last, seconds=time.monotonic() - self.since)
            return
        except Exception as error:  # noqa: BLE001 - a trial that fails is a row, not the end of the bench
            self.job = ""
            yield Message(job, "error", error=f"{type(error).__name__}: {error}", reason="raised")
            return
        yield Message(job, "progress", self.last)

    def cancel(self, job: str, grace_s: float = 0.0) -> None:
        if self.job == job:
            self.job = ""
            self.said.append(Message(job, "error", error="called off", reason="cancelled"))

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        yield


def spec_of(task: str, seed: int, trials: int) -> Spec:
    given = TASKS[task]
    return read(
        {
            "data": {"method": "builtin", "name": task},
            "goal": {
                "maximize": given.get("maximize", []),
                "minimize": [*given.get("minimize", []), "size_kb"],
                "budget": f"{trials} trials",
            },
            "seed": seed,
            "arch": given["arch"],
            "train": {
                "method": "adam",
                "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
                "weight_decay": {"low": 1e-6, "high": 1e-1, "log": True},
                "epochs": 30,
                "batch": 64,
                "patience": 0,
            },
            "search": {"folds": given["folds"]},
        }
    )


def cell(task: str, seed: int, arm: str, trials: int) -> dict[str, Any]:
    """One search: its CPU seconds, and the front that it found."""
    job = look(spec_of(task, seed, trials)).job
    chosen = default_search(job.splits.train, "table", objectives=2)
    study = Study(
        walk=space(job.spec),
        goal=job.spec.goal,
        sampler=decode("sampler", job.spec.search["sampler"]),
        stopper=decode("stopper", chosen["stopper"]) if arm == "stopped" else None,
        seed=seed,
        budget=Budget(trials=trials),
    )
    started, wall = time.process_time(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/ledger.db")
        ledger, _ = Ledger.open(database, "key", {})
        ended = [
            trial
            for trial in search(
                study, Inline(worker(job)), lambda r: {"size_bytes": float(len(r["artifact"]))}, lambda a: "", ledger
            )
            if trial.state != "running"
        ]
        database.close()
    points = [objectives(trial, job.spec.goal) for trial in front(ended, job.spec.goal)]
    return {
        "task": task,
        "seed": seed,
        "arm": arm,
        "trials": trials,
        "sampler": job.spec.search["sampler"],
        "stopper": chosen["stopper"] if arm == "stopped" else None,
        "states": {state: sum(t.state == state for t in ended) for state in ("done", "stopped", "failed", "refused")},
        "cpu_s": round(time.process_time() - started, 2),
        "wall_s": round(time.monotonic() - wall, 2),
        "work": sum(trial.work for trial in ended),
        "pick_s": round(sum(trial.pick_s for trial in ended), 3),
        "front": points,
        "hypervolume": volume(task, points),
    }


def volume(task: str, points: list[tuple[float, ...]]) -> float:
    """Of quality and log size, both scaled so that the reference is 1."""
    given = TASKS[task]
    scale = math.log(LARGEST_KB / SMALLEST_KB)
    best = -1.0 if "maximize" in given else 0.0
    span = given["reference"] - best
    rows = [((loss - best) / span, math.log(max(kb, SMALLEST_KB) / SMALLEST_KB) / scale) for loss, kb in points]
    return round(hypervolume(rows, (1.0, 1.0)), 6)


def summary(rows: list[Mapping[str, Any]]) -> None:
    """The ratio of hypervolumes and of CPU seconds, stopped over all, with bootstrap intervals over seeds."""
    print(f"{'task':<15}{'seeds':>6}  hypervolume ratio        CPU ratio")
    by = {(row["task"], row["seed"], row["trials"], row["arm"]): row for row in rows}
    random = np.random.default_rng(0)
    for task in TASKS:
        pairs = [
            (by[(t, s, n, "stopped")], row)
            for (t, s, n, arm), row in by.items()
            if t == task and arm == "all" and (t, s, n, "stopped") in by
        ]
        if not pairs:
            continue
        told = []
        for key in ("hypervolume", "cpu_s"):
            ratios = np.array([one[key] / two[key] for one, two in pairs])
            drawn = ratios[random.integers(0, len(ratios), (2000, len(ratios)))].mean(axis=1)
            low, high = np.quantile(drawn, [0.025, 0.975])
            told.append(f"{ratios.mean():.4f} [{low:.4f}, {high:.4f}]")
        print(f"{task:<15}{len(pairs):>6}  {told[0]:<24} {told[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed, 15 trials")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    seeds, trials = (range(1), 15) if quick else (range(10), 40)
    RESULTS.parent.mkdir(exist_ok=True)
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    known = {(row["task"], row["seed"], row["arm"], row["trials"]) for row in rows}
    for seed in seeds:
        for task in TASKS:
            for arm in ARMS:
                if (task, seed, arm, trials) not in known:
                    rows.append(cell(task, seed, arm, trials))
                    with RESULTS.open("a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
                    print(task, seed, arm, rows[-1]["cpu_s"], rows[-1]["hypervolume"], flush=True)
    summary([row for row in rows if row["trials"] == trials])


if __name__ == "__main__":
    main()
