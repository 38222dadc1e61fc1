"""The two arms of `joint.py`: one search over everything, and one stage after the other."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

STAGE = 0.7
"""The share of the staged arm's seconds that goes to the first stage."""

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
