"""One search over preparation, architecture, hyperparameters and compression, against one after the other.

    python bench/search/joint.py [--quick] [--seeds 0-9] [--sets wine,digits] [--cpu 90] [--deployed] [--show]

Both arms have the same processor seconds, the same spaces, the same workers' code and the same measuring:

- joint: modelmill's default search with three objectives (quality, p50 of one row, bytes).
- staged: Optuna's TPE on arch and training alone, for the best quality, in 70 % of the seconds; then every recipe of
  compression on the best model, which is not trained again, in the order of a grid, in what is left. Every model on the
  way counts.

What counts is the hypervolume of (quality on the test rows, log p50, log bytes) over each arm's front on the
validation rows, in the box from REFERENCE to IDEAL, all fixed beforehand. At the end of a cell the fronts of both arms
are measured anew, all models interleaved in one run. A row also says whether the model that a build would deploy of
`joint` under the asked limits keeps them when it is measured again. A cell (set, seed) is a line of
`results/joint.jsonl`; one that is there is not run again. `--deployed` runs the joint arm alone, for that last question
(`results/deployed.jsonl`).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import stats
from arms import Cell, joint, staged
from sets import SETS, job_of

HERE = Path(__file__).parent

LATENCY_MS = (0.005, 1.0)
"""Ideal and reference p50."""
SIZE = (300.0, 1e6)
"""Ideal and reference bytes."""
ROUNDS = 7
"""How often all models of a cell are timed in turns; a model's p50 is the median of the rounds. A model that both arms
found has one."""
LIMITS = {"latency_ms": 0.1, "size_kb": 30.0}
"""What the deployed model is asked to keep."""

SAME, TRIES, PAUSE_S = 0.1, 30, 2.0
"""Within which part of its speed the machine counts as being as fast again; how often that is looked at, and when."""
QUICK = ("wine", "digits")

Row = dict[str, Any]


def outcome(cells: Mapping[str, Cell]) -> Row:
    """The front of each arm on the validation rows, scored on the test rows; all models are measured anew in one run.

    What slows the machine slows both arms.
    """
    from modelmill.evaluate.judge import measure, predict
    from modelmill.metrics.score import score
    from modelmill.search.pareto import front, hypervolume

    job = next(iter(cells.values())).job
    goal, test = job.spec.goal, job.splits.test
    metric = goal.maximize[0]
    shown = [(arm, trial.artifact) for arm, cell in cells.items() for trial in front(cell.made, goal)]
    graphs = {artifact: cells[arm].blobs[artifact] for arm, artifact in shown}
    rounds = [measure(list(graphs.values()), test, ["latency_ms"], quick=True) for _ in range(ROUNDS)]
    latency = {name: float(np.median([one[i]["latency_ms"] for one in rounds])) for i, name in enumerate(graphs)}
    points: dict[str, list[tuple[float, ...]]] = {arm: [] for arm in cells}
    for arm, artifact in shown:
        graph = graphs[artifact]
        quality = score([metric], predict(graph, test), test.target, job.signature.classes)[metric]
        points[arm].append((quality, latency[artifact], float(len(graph))))
    return {
        "hypervolume": {
            arm: hypervolume([_box(point, floor(job)) for point in found], (1.0, 1.0, 1.0))
            for arm, found in points.items()
        },
        "points": {arm: [[round(value, 6) for value in point] for point in found] for arm, found in points.items()},
        "made": {arm: len(cell.made) for arm, cell in cells.items()},
        **deployed(cells["joint"]),
    }


def deployed(cell: Cell) -> Row:
    """What becomes of the model that a build would publish under limits, when it is measured once more.

    A build measures its winner thoroughly (three times where a limit is kept narrowly), and takes the next one, of
    three, where a limit is not kept. The slowest other model of the cell is timed beside it in turns: it says how fast
    the machine is, which on shared hosts changes by a factor of two within seconds. The model is measured once more
    when the machine is as fast as it was. Told are the milliseconds of every candidate, and those of the last
    measuring, each with those of the other model.
    """
    from modelmill.evaluate.judge import measure
    from modelmill.recipe.limits import at_length, limits
    from modelmill.recipe.make import MOST, following
    from modelmill.spec import Goal

    told: list[tuple[float, float]] = []
    asked, test = Goal(maximize=cell.job.spec.goal.maximize[:1], limit=LIMITS), cell.job.splits.test

    def keeps(found: Any) -> bool:
        told.append((round(found[0]["latency_ms"], 6), round(found[1]["latency_ms"], 6)))
        return all(limit.kept for limit in limits(asked.limit, found[0]).values())

    tried: list[Any] = []
    what = "none"
    while len(tried) < MOST and (trial := following(cell.made, asked, tried)) is not None:
        others = [one for one in cell.made if one.artifact != trial.artifact] or [trial]
        beside = max(others, key=lambda one: one.costs["latency_ms"])
        graphs = [cell.blobs[trial.artifact], cell.blobs[beside.artifact]]
        found = at_length(graphs, test, asked.limit)
        if keeps(found):
            what = "the machine was not as fast again"
            for _ in range(TRIES):
                again = measure(graphs, test, ["latency_ms", "size_bytes"])
                if abs(again[1]["latency_ms"] / found[1]["latency_ms"] - 1) <= SAME:
                    what = "keeps" if keeps(again) else "breaks"
                    break
                time.sleep(PAUSE_S)
            break
        tried.append((trial, found[0]))
        what = "none of three keeps the limits, as the build says"
    return {"deployed": what, "deployed_ms": told}


def floor(job: Any) -> float:
    """The reference quality: that of always answering the commonest class, or the mean."""
    if not job.signature.classes:
        return 0.0
    _, counts = np.unique(job.splits.test.target, return_counts=True)
    return float(counts.max() / counts.sum())


def _box(point: Sequence[float], worst: float) -> tuple[float, ...]:
    """A point in the unit box: 0 is ideal, 1 the reference, cut off at the ideal."""
    quality = (1.0 - point[0]) / (1.0 - worst)
    latency = math.log(point[1] / LATENCY_MS[0]) / math.log(LATENCY_MS[1] / LATENCY_MS[0])
    size = math.log(point[2] / SIZE[0]) / math.log(SIZE[1] / SIZE[0])
    return tuple(max(0.0, value) for value in (quality, latency, size))


def run(name: str, seed: int, cpu_s: float, alone: bool = False) -> Row:
    """One cell: both arms, in turns which comes first; or the joint arm alone, for what it would deploy."""
    import dataclasses

    import torch

    from modelmill.recipe.shelf import Shelf

    torch.set_num_threads(1)
    job, cells, spent = job_of(name, seed), {}, {}
    arms = ("joint",) if alone else ("joint", "staged") if seed % 2 == 0 else ("staged", "joint")
    for arm in arms:
        with tempfile.TemporaryDirectory() as folder:
            started = time.process_time()
            cells[arm] = Cell(dataclasses.replace(job, shelf=Shelf(Path(folder))), cpu_s)
            {"joint": joint, "staged": staged}[arm](cells[arm], seed)
            spent[arm] = round(time.process_time() - started, 2)
    found = deployed(cells["joint"]) if alone else outcome(cells)
    return {"set": name, "seed": seed, "cpu_s": spent, "asked_s": cpu_s, **found}


def report(path: Path, seeds: range) -> None:
    """The ratio of the arms, set by set, and whether it is more than luck."""
    from scipy.stats import wilcoxon

    rows = [row for row in map(json.loads, path.read_text().splitlines()) if row["seed"] in seeds]
    compared = [row for row in rows if "hypervolume" in row]
    values: dict[str, float] = {}
    ratios: dict[str, list[float]] = {}
    for name in dict.fromkeys(row["set"] for row in compared):
        pairs = [
            tuple(row["hypervolume"][arm] for arm in ("joint", "staged")) for row in compared if row["set"] == name
        ]
        if pairs:
            ratios[name] = [one / max(two, 1e-9) for one, two in pairs]
            differs = any(one != two for one, two in pairs)
            values[name] = float(wilcoxon(*zip(*pairs, strict=True)).pvalue) if differs and len(pairs) > 4 else 1.0
    holm = stats.holm(values)
    for name, found in ratios.items():
        low, middle, high = np.quantile(found, [0.25, 0.5, 0.75])
        print(f"{name:18} {len(found):3} seeds  ratio {middle:.3f} ({low:.3f} to {high:.3f})  Holm p {holm[name]:.4f}")
    if ratios:
        print(f"median ratio {np.median([ratio for found in ratios.values() for ratio in found]):.3f}")
    said = Counter(row["deployed"] for row in rows if "deployed" in row)  # the first rows took the winner unmeasured
    print("what a build would deploy, measured once more:", ", ".join(f"{n} {what}" for what, n in said.items()))


def main() -> None:
    """Run the cells that are not there yet, then compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two sets, two seeds, 20 seconds")
    parser.add_argument("--seeds", default="0-9", help="0 to 9 judge; those from 100 on are for choosing")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--cpu", type=float, default=90.0)
    parser.add_argument("--deployed", action="store_true", help="the joint arm alone: does what it would deploy keep")
    parser.add_argument("--show", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    kind = "deployed" if arguments.deployed else "joint"
    path = HERE / "results" / f"{kind}{'_quick' if arguments.quick else ''}.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.touch()
    done = {(row["set"], row["seed"]) for row in map(json.loads, path.read_text().splitlines())}
    sets = QUICK if arguments.quick else arguments.sets.split(",")
    first, _, last = ("0-1" if arguments.quick else arguments.seeds).partition("-")
    seeds, cpu_s = range(int(first), int(last or first) + 1), 20.0 if arguments.quick else arguments.cpu
    for seed, name in itertools.product(seeds, sets):
        if arguments.show or (name, seed) in done:
            continue
        row = run(name, seed, cpu_s, arguments.deployed)
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(name, seed, row.get("hypervolume", ""), row["deployed"], flush=True)
    report(path, seeds)


if __name__ == "__main__":
    main()
