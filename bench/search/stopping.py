"""What stopping saves where there are several objectives: searches with a stopper and without, on four tasks.

    python bench/search/stopping.py [--quick] [--seeds 0-9] [--stoppers default,NAME,...] [--show]

A cell is a task and a seed: a search for quality and size that trains every candidate to its end, and the same search
with a stopper, which has half of the CPU seconds that the first took. Spaces, folds and epochs are those that a build
writes for the data. Kept is the hypervolume that the front had by each CPU second of the cell. Trainings are real, in
this process, on one thread. Cells that are in results/stopping.jsonl are not run again. The stopper is the default one
of a build; seeds from 100 on are for choosing it, seeds 0 to 9 for judging it.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
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
from modelmill.search.ledger.ledger import Ledger
from modelmill.search.pareto import front, hypervolume, objectives
from modelmill.search.search import Study, search
from modelmill.spec import Budget, Spec, read, space
from modelmill.store.database import Database
from modelmill.trial import Trial

RESULTS = Path(__file__).with_name("results") / "stopping.jsonl"
MOST = 6
"""A search that stops may try so many times as many candidates, within the same CPU seconds."""
HALF = 0.5
"""The part of the CPU seconds of a search that stops nothing, which one that stops may spend."""
TASKS: dict[str, dict[str, Any]] = {
    "iris": {"minimize": ["log_loss"], "reference": 1.1},
    "breast_cancer": {"minimize": ["log_loss"], "reference": 0.7},
    "wine": {"minimize": ["log_loss"], "reference": 1.1},
    "diabetes": {"minimize": ["rmse"], "reference": 80.0},
}
"""Set: quality, and the loss of a model that knows nothing: the reference point, with 1 MB."""
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
                "minimize": [*given.get("minimize", []), "size_kb"],
                "budget": f"{trials} trials",
            },
            "seed": seed,
        }
    )


def cell(task: str, seed: int, arm: str, trials: int, most_s: float) -> dict[str, Any]:
    """One search: its CPU seconds, and how its front grew with them; ends with its trials or its CPU seconds."""
    job = look(spec_of(task, seed, trials)).job
    chosen = default_search(job.splits.train, "table", objectives=2)["stopper"]
    stopper = None if arm == "all" else chosen if arm == "default" else {"method": arm}
    study = Study(
        walk=space(job.spec),
        goal=job.spec.goal,
        sampler=decode("sampler", job.spec.search["sampler"]),
        stopper=decode("stopper", stopper) if stopper else None,
        seed=seed,
        budget=Budget(trials=trials),
    )
    started, wall = time.process_time(), time.monotonic()
    ended: list[Trial] = []
    grown: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/ledger.db")
        ledger, _ = Ledger.open(database, "key", {})
        for trial in search(
            study, Inline(worker(job)), lambda r: {"size_bytes": float(len(r["artifact"]))}, lambda a: "", ledger
        ):
            spent_s = time.process_time() - started
            if spent_s > most_s:
                break
            if trial.state == "running":
                continue
            ended.append(trial)
            reached = volume(task, [objectives(trial, job.spec.goal) for trial in front(ended, job.spec.goal)])
            if not grown or reached > grown[-1][1]:
                grown.append((round(spent_s, 2), reached))
        database.close()
    return {
        "task": task,
        "seed": seed,
        "arm": arm,
        "trials": trials,
        "sampler": job.spec.search["sampler"],
        "stopper": stopper,
        "states": {state: sum(t.state == state for t in ended) for state in ("done", "stopped", "failed", "refused")},
        "cpu_s": round(min(time.process_time() - started, most_s), 2),
        "wall_s": round(time.monotonic() - wall, 2),
        "work": sum(trial.work for trial in ended),
        "pick_s": round(sum(trial.pick_s for trial in ended), 3),
        "hypervolumes": grown,
    }


def volume(task: str, points: list[tuple[float, ...]]) -> float:
    """Of quality and log size, both scaled so that the reference is 1."""
    reference = TASKS[task]["reference"]
    scale = math.log(LARGEST_KB / SMALLEST_KB)
    rows = [(loss / reference, math.log(max(kb, SMALLEST_KB) / SMALLEST_KB) / scale) for loss, kb in points]
    return round(hypervolume(rows, (1.0, 1.0)), 6)


def at(row: Mapping[str, Any], cpu_s: float) -> float:
    """The hypervolume that a search had by so many CPU seconds."""
    return max((reached for spent_s, reached in row["hypervolumes"] if spent_s <= cpu_s), default=0.0)


def summary(rows: list[Mapping[str, Any]], arm: str) -> None:
    """Hypervolume at half of the CPU seconds, over that at their end of the search that stops nothing.

    Means over seeds with bootstrap intervals, beside the same for that search itself at its half.
    """
    print(f"\n{arm}\n{'task':<15}{'seeds':>6}  {'stopping, half the CPU':<27}{'nothing stopped, half':<27}tried")
    by = {(row["task"], row["seed"], row["arm"]): row for row in rows}
    random = np.random.default_rng(0)
    for task in TASKS:
        pairs = [
            (by[t, s, arm], row) for (t, s, a), row in by.items() if t == task and a == "all" and (t, s, arm) in by
        ]
        if not pairs:
            continue
        told = []
        for side in (0, 1):
            ratios = np.array([at(pair[side], HALF * pair[1]["cpu_s"]) / at(pair[1], math.inf) for pair in pairs])
            drawn = ratios[random.integers(0, len(ratios), (2000, len(ratios)))].mean(axis=1)
            low, high = np.quantile(drawn, [0.025, 0.975])
            told.append(f"{ratios.mean():.4f} [{low:.4f}, {high:.4f}]")
        tried = [sum(one["states"].values()) / sum(two["states"].values()) for one, two in pairs]
        print(f"{task:<15}{len(pairs):>6}  {told[0]:<27}{told[1]:<27}{np.mean(tried):.2f}x of all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, 15 trials")
    parser.add_argument("--seeds", default="0-9")
    parser.add_argument("--stoppers", default="default", help="names, with commas; `default` is that of a build")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--show", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    first, _, last = ("0" if arguments.quick else arguments.seeds).partition("-")
    seeds, trials = range(int(first), int(last or first) + 1), 15 if arguments.quick else 40
    arms = arguments.stoppers.split(",")
    RESULTS.parent.mkdir(exist_ok=True)
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    known = {(row["task"], row["seed"], row["arm"], row["trials"]): row for row in rows}
    wanted = itertools.product(seeds, arguments.tasks.split(","), ["all", *arms]) if not arguments.show else ()
    if not arguments.show:
        cell("wine", 0, "all", 3, math.inf)  # libraries are loaded once, and in no cell
    for seed, task, arm in wanted:
        if (task, seed, arm, trials) in known:
            continue
        whole = known.get((task, seed, "all", trials))
        row = cell(
            task, seed, arm, trials * (1 if arm == "all" else MOST), HALF * whole["cpu_s"] if whole else math.inf
        )
        known[task, seed, arm, trials] = {**row, "trials": trials}
        with RESULTS.open("a") as file:
            file.write(json.dumps({**row, "trials": trials}) + "\n")
        print(task, seed, arm, row["cpu_s"], row["hypervolumes"][-1:], row["states"], flush=True)
    for arm in arms:
        summary([row for row in known.values() if row["trials"] == trials and row["seed"] in seeds], arm)


if __name__ == "__main__":
    main()
