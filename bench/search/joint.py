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
import contextlib
import itertools
import json
import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import stats

HERE = Path(__file__).parent
FASHION = Path("/usr/share/datasets/fashion-mnist")

LATENCY_MS = (0.005, 1.0)
"""Ideal and reference p50."""
SIZE = (300.0, 1e6)
"""Ideal and reference bytes."""
ROUNDS = 7
"""How often all models of a cell are timed in turns; a model's p50 is the median of the rounds. A model that both arms
found has one."""
STAGE = 0.7
"""The share of the staged arm's seconds that goes to the first stage."""
LIMITS = {"latency_ms": 0.1, "size_kb": 30.0}
"""What the deployed model is asked to keep."""

BUILTIN = ("iris", "wine", "breast_cancer", "digits", "diabetes")
PARTS: Mapping[str, Sequence[int]] = {
    "fashion": range(10),
    "fashion_tops": (0, 2, 4, 6),
    "fashion_shoes": (5, 7, 9),
    "fashion_trousers": (1, 3),
    "fashion_bags": (0, 3, 6, 8),
}
"""Parts of Fashion-MNIST: some of the classes."""
ROWS = {"path": 400, "test": 2000}
"""Rows to search with, and for the test. With 2,000 and with 700 of the first, and a minute, an arm trained three to
eight networks, and which came first decided all. With these it trains a dozen: settled on seeds from 100 on."""
SETS = (*BUILTIN, *PARTS)
QUICK = ("wine", "digits")

Row = dict[str, Any]


class Inline:
    """Runs one job in this process, a step a call, so that one clock counts all processor seconds."""

    def __init__(self, work: Any) -> None:
        self._work = work
        self._job: tuple[str, Iterator[Any]] | None = None
        self._last: Any = None
        self._started = 0.0
        self._said: list[Any] = []

    @property
    def free(self) -> int:
        return int(self._job is None)

    def submit(self, job: str, payload: Any) -> None:
        self._job, self._started = (job, self._work(payload)), time.monotonic()

    def messages(self, timeout_s: float) -> Iterator[Any]:
        from modelmill.execute.message import Message

        said, self._said = self._said, []
        yield from said
        if self._job is None:
            return
        job, steps = self._job
        try:
            self._last = next(steps)
        except StopIteration:
            self._job = None
            yield Message(job, "result", self._last, seconds=time.monotonic() - self._started)
        except Exception as error:  # noqa: BLE001 - a candidate that fails is a trial that failed
            self._job = None
            yield Message(job, "error", error=str(error), reason="raised")
        else:
            yield Message(job, "progress", self._last)

    def cancel(self, job: str, grace_s: float = 0.0) -> None:
        from modelmill.execute.message import Message

        self._job = None
        self._said.append(Message(job, "error", error="called off", reason="cancelled"))

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        yield


def source(name: str, rows: Mapping[str, int] = ROWS) -> Row:
    """The data table of a set's spec; parts of Fashion-MNIST are cut into files beside the temporary ones.

    rows: so many to search with (`path`), and for the test (`test`), which search never sees.
    """
    if name in BUILTIN:
        return {"method": "builtin", "name": name}
    table: Row = {"method": "npz"}
    for part, count in rows.items():
        path = Path(tempfile.gettempdir()) / f"modelmill_{name}_{part}_{count}.npz"
        if not path.exists():
            stem = "train" if part == "path" else "t10k"
            images, labels = _idx(f"{stem}-images-idx3-ubyte"), _idx(f"{stem}-labels-idx1-ubyte")
            found = np.flatnonzero(np.isin(labels, list(PARTS[name])))
            found = np.random.default_rng(0).permutation(found)[:count]
            np.savez_compressed(path, x=images[found], y=labels[found].astype(np.int64))
        table[part] = str(path)
    return table


def _idx(stem: str) -> np.ndarray:
    import gzip

    path = next(path for path in FASHION.iterdir() if path.name.startswith(stem))
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    axes = data[3]
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes)]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def job_of(name: str, seed: int) -> Any:
    """The job of a set with the mill's own spaces, three objectives, and one holdout."""
    from modelmill.recipe.look import look
    from modelmill.spec import read

    metric = "r2" if name == "diabetes" else "accuracy"
    goal = {"maximize": metric, "minimize": ["latency_ms", "size_kb"], "budget": "10000 trials"}
    return look(read({"data": source(name), "goal": goal, "seed": seed, "search": {"folds": 1}})).job


class Cell:
    """One arm on one set: models made so far, within its processor seconds."""

    def __init__(self, job: Any, cpu_s: float) -> None:
        self.job = job
        self.ends = time.process_time() + cpu_s
        self.blobs: dict[str, bytes] = {}
        self.made: list[Any] = []

    @property
    def over(self) -> bool:
        return time.process_time() >= self.ends

    def keep(self, artifact: bytes) -> str:
        from modelmill.graph.digest import digest

        name = digest(artifact)
        self.blobs[name] = artifact
        return name

    def judge(self, result: Mapping[str, Any]) -> Mapping[str, float]:
        from modelmill.evaluate.judge import measure

        return measure([result["artifact"]], self.job.splits.valid, ["latency_ms", "size_bytes"], quick=True)[0]


def joint(cell: Cell, seed: int) -> None:
    """The default search, until its processor seconds are spent."""
    play(cell, cell.job, seed, stopper=cell.job.spec.search.get("stopper"), until=cell.ends)


def play(cell: Cell, job: Any, seed: int, until: float, stopper: Any = None, sampler: Any = None) -> list[Any]:
    """A search of a job; the trials that were done."""
    from modelmill.method import decode
    from modelmill.recipe.grow import same
    from modelmill.recipe.studies import openings
    from modelmill.recipe.worker import worker
    from modelmill.search.ledger.ledger import Ledger
    from modelmill.search.search import Study, search
    from modelmill.spec import Budget, space
    from modelmill.store.database import Database

    study = Study(
        walk=space(job.spec),
        goal=job.spec.goal,
        sampler=decode("sampler", sampler or job.spec.search["sampler"]),
        stopper=decode("stopper", stopper) if stopper else None,
        seed=seed,
        budget=Budget(trials=100_000),
        first=openings(job.spec),
        same=lambda picks: same(job, picks),
    )
    done = []
    with tempfile.TemporaryDirectory() as folder:
        ledger, _ = Ledger.open(Database(f"sqlite:///{folder}/ledger.db"), "joint", {})
        steps = search(study, Inline(worker(job)), cell.judge, cell.keep, ledger)
        for trial in steps:
            if trial.state == "done":
                done.append(trial)
                cell.made.append(trial)
            if time.process_time() >= until:
                break
        steps.close()
    return done


def staged(cell: Cell, seed: int) -> None:
    """Quality first, by Optuna's TPE; then every recipe on the best."""
    import msgspec

    from modelmill.recipe.worker import worker
    from modelmill.spec import Goal

    spec = cell.job.spec
    goal = Goal(maximize=spec.goal.maximize, budget=spec.goal.budget)
    plain = _with(cell.job, compress=(), goal=goal)
    first = time.process_time() + STAGE * (cell.ends - time.process_time())
    done = play(cell, plain, seed, first, sampler={"method": "tpe"}, stopper={"method": "median"})
    if not done:
        return
    best = max(done, key=lambda trial: trial.metrics[goal.maximize[0]])
    work = worker(cell.job)
    for recipe in recipes(cell.job, best.settings):
        if cell.over:
            return
        picks = {**best.settings, **recipe}
        *_, result = work({"settings": picks, "seed": best.seed, "seconds": None, "like": best.number})
        if "artifact" in result:
            costs = cell.judge(result)
            digest = cell.keep(result["artifact"])
            cell.made.append(msgspec.structs.replace(best, metrics=result["metrics"], costs=costs, artifact=digest))


def _with(job: Any, **changes: Any) -> Any:
    import dataclasses

    import msgspec

    return dataclasses.replace(job, spec=msgspec.structs.replace(job.spec, **changes))


def recipes(job: Any, settings: Mapping[str, Any]) -> Iterator[Row]:
    """Every combination of the steps of compression that the body can take, ranges in five values."""
    from modelmill.space import Space, grid
    from modelmill.spec import space

    found = Space(space(job.spec))
    every = {one.name: one for one in found.dimensions if one.name.startswith("compress")}
    for values in itertools.product(*(grid(one, 5) for one in every.values())):
        picked = dict(zip(every, values, strict=True))
        met = {one.name for one in found.met({**_filled(found, settings), **picked})}
        if all(name in met or value == grid(every[name], 5)[0] for name, value in picked.items()) and any(
            value is True for value in picked.values()
        ):
            yield {name: value for name, value in picked.items() if name in met}


def _filled(found: Any, settings: Mapping[str, Any]) -> Row:
    return {**{one.name: (one.options or (one.low,))[0] for one in found.dimensions}, **settings}


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
    three, where a limit is not kept. Told are the milliseconds of every candidate, and those of the last measuring.
    """
    from modelmill.evaluate.judge import measure
    from modelmill.recipe.limits import at_length, limits
    from modelmill.recipe.make import MOST, following
    from modelmill.spec import Goal

    told: list[float] = []
    asked, test = Goal(maximize=cell.job.spec.goal.maximize[:1], limit=LIMITS), cell.job.splits.test

    def keeps(costs: Any) -> bool:
        told.append(round(costs["latency_ms"], 6))
        return all(limit.kept for limit in limits(asked.limit, costs).values())

    tried: list[Any] = []
    what = "none"
    while len(tried) < MOST and (trial := following(cell.made, asked, tried)) is not None:
        graphs = [cell.blobs[trial.artifact]]
        costs = at_length(graphs, test, asked.limit)[0]
        if keeps(costs):
            what = "keeps" if keeps(measure(graphs, test, ["latency_ms", "size_bytes"])[0]) else "breaks"
            break
        tried.append((trial, costs))
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
