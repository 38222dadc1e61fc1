"""What stopping saves where there are several objectives: searches with a stopper and without, on four tasks.

    python bench/search/stopping.py [--quick] [--seeds 0-9] [--stoppers default,NAME,...] [--sampler NAME] [--show]

A cell is a task and a seed: a search for quality (log loss) and size that trains every candidate to its end, and the
same search with a stopper. Kept is the hypervolume that the front had by each CPU second of the cell: it is said how
much of the other's last hypervolume the search that stops has at half of the other's CPU seconds, and by which part of
them it has all of it. It ends there, or with all of them. Trainings are real, in this process, on one thread. Cells
that are in results/stopping.jsonl are not run again.

Settled before any judging seed was run, on seeds from 100 on:

- The tasks are those where stopping can matter: networks alone, with the ranges that searches of networks commonly have
  (learning rate and weight decay over decades, dropout, depth, width), trained to a fixed number of epochs, without
  steps of compression; few rows, and so every candidate judged by three folds. On wine the smallest network
  was as good as any, and the front a single point: a table so small is left out. With one holdout, which was tried
  first, replays of seed 100 took 0.66 to 0.73 of the CPU seconds; a trial that is stopped in its first of three folds
  costs a third at most, and that is why folds were taken.
- The reference point of a task lies a tenth beyond the nadir of the front at the end of seed 100: REFERENCE.
- A task is won where the mean, over seeds 0 to 9, of the hypervolume at half of the CPU seconds with stopping over that
  at the end without is at least 1, and the same for the means of both, which no single seed can carry; a bootstrap
  interval is told beside it. Where the search without has no hypervolume at its end, the seed counts as 1.
- The stopper is the default one of a build with several objectives. The sampler is the default one, or `random`
  (`--sampler random`), which shows what the stopper does by itself: what is suggested does not depend on what was
  stopped, and of what is suggested more is not worth its training.
- The default was `front` first, with which and the default sampler the ten seeds were judged once
  (`results/stopping_front.jsonl`; not reached). On seeds 100 and 101, five cells with that sampler, `halving` had 1.02
  in the mean at half of the CPU seconds of 24 trials, and `front` 0.96; of 72 trials 0.97 and 0.94; in replays of eight
  recordings of random candidates 1.16 and 1.05, at or above 1 on all four tasks. So `halving` is the default since, and
  judged with random candidates. That a stopper which spares only what nothing beats is better was not so: 0.96 of 72.
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
from sets import source

from modelmill.execute.message import Message
from modelmill.method import decode
from modelmill.recipe.defaults import search as default_search
from modelmill.recipe.grow import same
from modelmill.recipe.job import Job
from modelmill.recipe.look import look
from modelmill.recipe.studies import openings
from modelmill.recipe.worker import worker
from modelmill.search.ledger.ledger import Ledger
from modelmill.search.pareto import front, hypervolume, objectives
from modelmill.search.search import Study, search
from modelmill.spec import Budget, read, space
from modelmill.store.database import Database
from modelmill.trial import Trial

RESULTS = Path(__file__).with_name("results") / "stopping.jsonl"
TRIALS = 24
"""So many trials has the search that stops nothing."""
MOST = 6
"""A search that stops may try so many times as many candidates."""
HALF = 0.5
"""The part of the CPU seconds of a search that stops nothing, at which the one that stops is looked at."""

TASKS = ("digits", "fashion", "fashion_tops", "fashion_shoes")
"""Sets of images; parts of Fashion-MNIST have 2,000 rows of so many classes."""
FOLDS = 3
ARCH: Mapping[str, Any] = {
    "method": "mlp",
    "depth": {"low": 1, "high": 4},
    "width": {"low": 4, "high": 128, "log": True},
    "dropout": {"low": 0.0, "high": 0.8},
}
TRAIN: Mapping[str, Any] = {
    "method": "adam",
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "weight_decay": {"low": 1e-5, "high": 1e-1, "log": True},
    "epochs": 20,
    "batch": 128,
    "patience": 0,
}
REFERENCE: Mapping[str, tuple[float, float, float]] = {
    "digits": (0.37, 40.0, 1.7),
    "fashion": (0.83, 85.0, 13.0),
    "fashion_tops": (0.79, 362.0, 13.0),
    "fashion_shoes": (0.23, 28.5, 13.0),
}
"""Log loss and kB of the point that a front is measured from, and the kB below which nothing counts."""


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


def job_of(task: str, seed: int) -> Job:
    return look(
        read(
            {
                "data": source(task, {"path": 2000}),
                "goal": {"minimize": ["log_loss", "size_kb"], "budget": f"{TRIALS} trials"},
                "seed": seed,
                "arch": ARCH,
                "train": TRAIN,
                "compress": [],
                "search": {"folds": FOLDS},
            }
        )
    ).job


def cell(task: str, seed: int, arm: str, trials: int, whole: Mapping[str, Any] | None, sampler: str) -> dict[str, Any]:
    """One search: its CPU seconds, and how its front grew with them.

    Ends with its trials; one that stops, when it is as good as the whole one was, after half of its CPU seconds at the
    least, or with all of them.
    """
    job = job_of(task, seed)
    chosen = default_search(job.splits.train, "table", objectives=2)["stopper"]
    stopper = None if arm == "all" else chosen if arm == "default" else {"method": arm}
    study = Study(
        walk=space(job.spec),
        goal=job.spec.goal,
        sampler=decode("sampler", {"method": sampler}),
        stopper=decode("stopper", stopper) if stopper else None,
        seed=seed,
        budget=Budget(trials=trials),
        first=openings(job.spec),
        same=lambda picks: same(job, picks),
    )
    started, wall = time.process_time(), time.monotonic()
    ended: list[Trial] = []
    grown: list[tuple[float, float]] = []
    most_s = whole["cpu_s"] if whole else math.inf
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/ledger.db")
        ledger, _ = Ledger.open(database, "key", {})
        trials_of = search(
            study, Inline(worker(job)), lambda r: {"size_bytes": float(len(r["artifact"]))}, lambda a: "", ledger
        )
        for trial in trials_of:
            spent_s = time.process_time() - started
            if spent_s > most_s:
                break
            if trial.state == "running":
                continue
            ended.append(trial)
            reached = volume(task, [objectives(trial, job.spec.goal) for trial in front(ended, job.spec.goal)])
            if not grown or reached > grown[-1][1]:
                grown.append((round(spent_s, 2), reached))
            if whole and reached >= at(whole, math.inf) and spent_s >= HALF * most_s:
                break
        trials_of.close()
        database.close()
    return {
        "task": task,
        "seed": seed,
        "arm": arm,
        "trials": trials,
        "sampler": {"method": sampler},
        "stopper": stopper,
        "states": {state: sum(t.state == state for t in ended) for state in ("done", "stopped", "failed", "refused")},
        "cpu_s": round(min(time.process_time() - started, most_s), 2),
        "wall_s": round(time.monotonic() - wall, 2),
        "work": sum(trial.work for trial in ended),
        "pick_s": round(sum(trial.pick_s for trial in ended), 3),
        "hypervolumes": grown,
        "front": [objectives(trial, job.spec.goal) for trial in front(ended, job.spec.goal)],
    }


def volume(task: str, points: list[tuple[float, ...]]) -> float:
    """Of log loss and log size, both scaled so that the reference is 1."""
    loss_most, largest_kb, least_kb = REFERENCE[task]
    scale = math.log(largest_kb / least_kb)
    rows = [(loss / loss_most, math.log(max(kb, least_kb) / least_kb) / scale) for loss, kb in points]
    return round(hypervolume(rows, (1.0, 1.0)), 6)


def at(row: Mapping[str, Any], cpu_s: float) -> float:
    """The hypervolume that a search had by so many CPU seconds."""
    return max((reached for spent_s, reached in row["hypervolumes"] if spent_s <= cpu_s), default=0.0)


def part(row: Mapping[str, Any], whole: Mapping[str, Any]) -> float:
    """By which part of the CPU seconds of the whole search another one has its last hypervolume; above 1 by none."""
    wanted = at(whole, math.inf)
    return min((spent_s / whole["cpu_s"] for spent_s, reached in row["hypervolumes"] if reached >= wanted), default=2.0)


def summary(rows: list[Mapping[str, Any]], arm: str) -> None:
    """Hypervolume at half of the CPU seconds, over that at their end of the search that stops nothing.

    Means over seeds with bootstrap intervals, beside the same for that search itself at its half; the means of both
    over each other; and by which part of the CPU seconds the search that stops has as much, at the median.
    """
    head = f"{'task':<15}{'seeds':>6}  {'stopping, half the CPU':<27}{'nothing stopped, half':<27}"
    print(f"\n{arm}\n{head}{'of means':<10}{'the same by':<13}{'reached':<9}stopped")
    by = {(row["task"], row["seed"], row["arm"]): row for row in rows}
    random = np.random.default_rng(0)
    for task in TASKS:
        pairs = [
            (by[t, s, arm], row) for (t, s, a), row in by.items() if t == task and a == "all" and (t, s, arm) in by
        ]
        if not pairs:
            continue
        told, means = [], []
        ends = np.array([at(whole, math.inf) for _, whole in pairs])
        for side in (0, 1):
            halves = np.array([at(pair[side], HALF * pair[1]["cpu_s"]) for pair in pairs])
            ratios = np.where(ends > 0, halves / np.where(ends > 0, ends, 1.0), 1.0)
            means.append(halves.mean() / ends.mean())
            drawn = ratios[random.integers(0, len(ratios), (2000, len(ratios)))].mean(axis=1)
            low, high = np.quantile(drawn, [0.025, 0.975])
            told.append(f"{ratios.mean():.4f} [{low:.4f}, {high:.4f}]")
        parts = [part(*pair) for pair in pairs]
        stopped = np.mean([one["states"]["stopped"] / sum(one["states"].values()) for one, _ in pairs])
        middle = float(np.median(parts))
        same_by = f"{middle:.2f} of it" if middle <= 1 else "not by 1"
        reached = f"{sum(one <= 1 for one in parts)}/{len(parts)}"
        shares = f"{means[0]:<10.4f}{same_by:<13}{reached:<9}{stopped:.0%}"
        print(f"{task:<15}{len(pairs):>6}  {told[0]:<27}{told[1]:<27}{shares}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed that judges nothing, 12 trials")
    parser.add_argument("--seeds", default="0-9")
    parser.add_argument("--stoppers", default="default", help="names, with commas; `default` is that of a build")
    parser.add_argument("--sampler", default="portfolio", help="of both arms; without it that of a build")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--show", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    first, _, last = ("100" if arguments.quick else arguments.seeds).partition("-")
    seeds, trials = range(int(first), int(last or first) + 1), 12 if arguments.quick else TRIALS
    arms = arguments.stoppers.split(",")
    RESULTS.parent.mkdir(exist_ok=True)
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    known = {
        (row["task"], row["seed"], row["arm"], row["trials"]): row
        for row in rows
        if row["sampler"]["method"] == arguments.sampler
    }
    wanted = itertools.product(seeds, arguments.tasks.split(","), ["all", *arms]) if not arguments.show else ()
    if not arguments.show:
        cell("digits", 999, "all", 3, None, arguments.sampler)  # libraries are loaded once, and in no cell
    for seed, task, arm in wanted:
        if (task, seed, arm, trials) in known:
            continue
        whole = known.get((task, seed, "all", trials))
        row = cell(
            task, seed, arm, trials * (1 if arm == "all" else MOST), None if arm == "all" else whole, arguments.sampler
        )
        known[task, seed, arm, trials] = {**row, "trials": trials}
        with RESULTS.open("a") as file:
            file.write(json.dumps({**row, "trials": trials}) + "\n")
        print(task, seed, arm, row["cpu_s"], row["hypervolumes"][-1:], row["states"], flush=True)
    for arm in arms:
        summary([row for row in known.values() if row["trials"] == trials and row["seed"] in seeds], arm)


if __name__ == "__main__":
    main()
