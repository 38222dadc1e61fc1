"""What stoppers do to trainings that were recorded: for choosing their defaults, never for judging them.

    python bench/search/replays.py record [--tasks digits,fashion] [--seeds 100-102] [--trials 60]
    python bench/search/replays.py show [--stoppers '{"method": "front"}' '{"method": "halving", "factor": 4}' ...]

The tasks are those of `stopping.py`. Recorded are random candidates, each trained to its end, with the CPU seconds at
every point of its curve: some minutes a task and seed, kept in `results/replays/`, which is not in the repository.
A replay goes through them in their order, stops what the stopper stops, and counts the seconds up to there. It is told
what `stopping.py` tells: the hypervolume at half of the seconds that 24 trials take to their ends, over theirs there,
and by which part of those seconds it is as much. Noise of the machine is the same for all stoppers, and so is chance:
there is no sampler that would go another way once something was stopped. Seeds below 100 judge, and are refused.
"""

from __future__ import annotations

import argparse
import itertools
import json
import pickle
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import stopping
import torch
from msgspec.structs import replace

from modelmill.contracts import Stopper
from modelmill.history import Curve
from modelmill.method import decode
from modelmill.recipe.studies import openings
from modelmill.recipe.worker import worker
from modelmill.search.pareto import front, objectives
from modelmill.search.past import curve
from modelmill.search.suggest import Suggester
from modelmill.spec import Goal, space
from modelmill.trial import Point, Trial

FOLDER = Path(__file__).with_name("results") / "replays"
Training = tuple[Trial, list[float], float]
"""A trial that is done, the CPU seconds at each point of its curve, and those of all."""

STOPPERS = (
    {"method": "front"},
    {"method": "front", "hope": 0.3},
    {"method": "front", "warmup": 0.15},
    {"method": "halving"},
    {"method": "halving", "factor": 4.0},
    {"method": "halving", "least": 4},
    {"method": "median"},
)


def record(task: str, seed: int, trials: int) -> list[Training]:
    """Random candidates of a task, after the first trials of a build, each trained to its end."""
    job = stopping.job_of(task, seed)
    run = worker(job)
    suggester = Suggester(space(job.spec), job.spec.goal, decode("sampler", {"method": "random"}), seed)
    first = openings(job.spec)
    found: list[Training] = []
    for number in range(trials):
        suggestion = suggester.opening(number, first[number]) if number < len(first) else None
        suggestion = suggestion or suggester.pick(number)
        if suggestion is None:
            break
        started, points, spent, foreseen = time.process_time(), [], [], {}
        news: dict[str, Any] = {}
        for news in run({"number": number, "settings": suggestion.settings, "seed": 1000 * seed + number}):
            if "step" in news:
                points.append(Point(int(news["step"]), dict(news["values"]), int(news.get("folds", 0))))
                spent.append(time.process_time() - started)
            elif "metrics" not in news:
                foreseen = dict(news["costs"])
        made = Trial(
            number,
            "done",
            suggestion.settings,
            metrics=dict(news["metrics"]),
            costs={"size_bytes": float(len(news["artifact"]))},
            foreseen=foreseen,
            curve=tuple(points),
        )
        found.append((made, spent, time.process_time() - started))
    return found


def replay(
    task: str, goal: Goal, trainings: Sequence[Training], stopper: Stopper | None
) -> tuple[list[tuple[float, float]], int]:
    """Seconds and hypervolume whenever a trial had ended, and how many were stopped."""
    spent, stopped = 0.0, 0
    done: list[Trial] = []
    curves: list[Curve] = []
    trace: list[tuple[float, float]] = []
    for trial, seconds, whole in trainings:
        at = next((i for i in range(len(seconds)) if stopper and _stops(stopper, trial, i, goal, curves)), None)
        if at is not None:
            stopped += 1
            spent += seconds[at]
            curves.append(curve(_until(trial, at, "stopped"), goal))
            continue
        spent += whole
        done.append(trial)
        curves.append(curve(trial, goal))
        trace.append((spent, stopping.volume(task, [objectives(one, goal) for one in front(done, goal)])))
    return trace, stopped


def _until(trial: Trial, at: int, state: Any) -> Trial:
    return replace(trial, state=state, curve=trial.curve[: at + 1], metrics={}, costs={})


def _stops(stopper: Stopper, trial: Trial, at: int, goal: Goal, curves: Sequence[Curve]) -> bool:
    own = curve(_until(trial, at, "running"), goal)
    point = trial.curve[at]
    return bool(own.at) and own.at[-1] == (point.folds, point.step) and bool(stopper(own, curves))


def told(table: dict[str, Any], recorded: Sequence[tuple[str, Goal, list[Training]]]) -> str:
    """One stopper, over all tasks and seeds."""
    rows = []
    for task, goal, trainings in recorded:
        plain, _ = replay(task, goal, trainings[: stopping.TRIALS], None)
        total_s, end = plain[-1]
        trace, stopped = replay(task, goal, trainings, decode("stopper", table))
        halves = [max([v for s, v in one if s <= stopping.HALF * total_s], default=0.0) for one in (trace, plain)]
        part = min((s / total_s for s, v in trace if v >= end), default=2.0)
        rows.append([*(half / end if end else 1.0 for half in halves), part, stopped / len(trainings)])
    half, plain_half, part, share = np.array(rows).T
    name = ", ".join(f"{key} {value}" for key, value in table.items()).removeprefix("method ")
    by = f"{np.median(part):.2f} of it" if np.median(part) <= 1 else "not by 1"
    return f"{name:<34}{half.mean():<9.3f}{plain_half.mean():<9.3f}{by:<14}{share.mean():.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("record", "show"))
    parser.add_argument("--tasks", default=",".join(stopping.TASKS))
    parser.add_argument("--seeds", default="100-102")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--stoppers", nargs="*", type=json.loads, default=STOPPERS)
    given = parser.parse_args()
    first, _, last = given.seeds.partition("-")
    if int(first) < 100:
        raise SystemExit("Seeds below 100 judge; choose on others.")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    FOLDER.mkdir(parents=True, exist_ok=True)
    cells = list(itertools.product(range(int(first), int(last or first) + 1), given.tasks.split(",")))
    if given.what == "record":
        record("digits", 999, 2)  # libraries are loaded once, and in no cell
    recorded = []
    for seed, task in cells:
        path = FOLDER / f"{task}_{seed}.pickle"
        if given.what == "record" and not path.exists():
            path.write_bytes(pickle.dumps(record(task, seed, given.trials)))
            print(f"{task} {seed}", flush=True)
        if path.exists():
            recorded.append((task, stopping.job_of(task, seed).spec.goal, pickle.loads(path.read_bytes())))
    if given.what == "show":
        print(f"{len(recorded)} recordings\n{'':<34}{'half':<9}{'plain':<9}{'as much by':<14}stopped")
        for table in given.stoppers:
            print(told(table, recorded), flush=True)


if __name__ == "__main__":
    main()
