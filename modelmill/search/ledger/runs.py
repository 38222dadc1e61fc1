"""Finds runs in the ledger by what people call them, and sums up what they found out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from modelmill.errors import RegistryError, UnknownName
from modelmill.search.course import walked
from modelmill.search.ledger.studies import StudyRow, studies, trials_of
from modelmill.search.pareto import best, front, hypervolume, objectives, value
from modelmill.spec import Goal
from modelmill.store.database import Database
from modelmill.trial import Trial

LAST = 8
"""So many of the last trials are shown."""


class Run(msgspec.Struct, frozen=True):
    """One run: its study, and the name of its folder."""

    study: StudyRow
    key: str
    folder: str

    @property
    def unfinished(self) -> bool:
        """Whether it can be gone on with."""
        return self.study.state == "interrupted"


class Summary(msgspec.Struct, frozen=True):
    """What a run found out."""

    run: Run
    best: Trial | None
    """The trial that would win now; None where none keeps the limits."""
    front: list[Trial]
    members: dict[str, dict[str, int]]
    """Who suggested: state: how many of its trials stand so."""
    costs: dict[str, float]
    """Seconds: of suggesting (`pick_s`), of all trials (`trials_s`), of the slowest suggestion (`slowest_pick_s`)."""
    last: list[Trial]
    chains: tuple[str, ...] = ()
    """What there is to say of the chains of an annealed search."""


def runs(database: Database) -> list[Run]:
    """All runs of a ledger, the newest first."""
    with database.reading() as connection:
        keys = {int(row[0]): str(row[1]) for row in connection.rows("SELECT id, key FROM studies")}
    return [Run(study, keys[study.id], folder(study.name, keys[study.id])) for study in studies(database)]


def folder(name: str, key: str) -> str:
    """The name of a run's folder: that of the model, and the beginning of a digest of spec and data."""
    return f"{name}-{key.removeprefix('sha256:')[:12]}"


def find(database: Database, called: str) -> Run:
    """The run of that number or folder, or of the only folder that begins so; of several of one folder the newest.

    Raises RegistryError where there is none, with what comes close, or where there are several.
    """
    known = runs(database)
    same = [run for run in known if called in (str(run.study.id), run.folder)]
    begin = same or [run for run in known if called and run.folder.startswith(called)]
    names = list(dict.fromkeys(run.folder for run in begin))
    if len(names) > 1:
        raise RegistryError(
            f"run {called}", f"{len(names)} runs begin so: {', '.join(names)}", "Write more of the name."
        )
    if not begin:
        near = UnknownName.among("run", "run", called, [*(run.folder for run in known), *map(_number, known)])
        hint = near.hint or "There is none yet. Try: modelmill build iris --budget 20s"
        raise RegistryError(f"run {called}", "there is no run of that name or number", hint)
    return begin[0]


def _number(run: Run) -> str:
    return str(run.study.id)


def summary(database: Database, run: Run) -> Summary:
    """What a run found out so far."""
    trials = trials_of(database, run.study.id)
    goal = run.study.goal
    members: dict[str, dict[str, int]] = {}
    for trial in trials:
        counts = members.setdefault(suggested_by(trial, run.study.spec), {})
        counts[trial.state] = counts.get(trial.state, 0) + 1
    picks = [trial.pick_s for trial in trials]
    return Summary(
        run,
        best(trials, goal, _tolerance(trials, goal)) if goal.objectives else None,
        front(trials, goal) if goal.objectives else [],
        members,
        {
            "pick_s": round(sum(picks), 6),
            "slowest_pick_s": max(picks, default=0.0),
            "trials_s": round(sum(trial.seconds for trial in trials), 3),
        },
        trials[-LAST:],
        told.words if (told := walked(trials, goal)) else (),
    )


def suggested_by(trial: Trial, spec: Mapping[str, Any]) -> str:
    """The member of a portfolio that suggested a trial, else the sampler of the run."""
    sampler = spec.get("search", {}).get("sampler", {}).get("method", "sampler")
    member = trial.memo.get("member")
    return f"{sampler}: {member}" if member else str(sampler)


def _tolerance(trials: Sequence[Trial], goal: Goal) -> float:
    top = best(trials, goal)
    return 0.0 if goal.limit or top is None else top.spread


def compare(first: Summary, second: Summary) -> dict[str, dict[str, Any]]:
    """Two runs side by side: `figures` by name, and the `settings` of their specs that differ, each as a pair."""
    pair = (first, second)
    goal = first.run.study.goal
    names = [name for name, _ in goal.objectives] + list(goal.limit)
    figures: dict[str, Any] = {
        f"best {name}": [_figure(one.best, name) for one in pair] for name in dict.fromkeys([*names, "size_bytes"])
    }
    if goal.objectives == second.run.study.goal.objectives:
        figures["hypervolume of the front"] = volumes([first.front, second.front], goal)
    figures["trials on the front"] = [len(one.front) for one in pair]
    for state in ("done", "stopped", "failed", "refused"):
        figures[state] = [one.run.study.counts.get(state, 0) for one in pair]
    figures["seconds"] = [round(one.run.study.seconds, 1) for one in pair]
    figures["seconds of all trials"] = [round(one.costs["trials_s"], 1) for one in pair]
    figures["seconds of suggesting"] = [round(one.costs["pick_s"], 3) for one in pair]
    return {"figures": figures, "settings": differing(first.run.study.spec, second.run.study.spec)}


def _figure(trial: Trial | None, name: str) -> float | None:
    found = float("nan") if trial is None else value(trial, name)
    return None if found != found else found


def volumes(sets: Sequence[Sequence[Trial]], goal: Goal) -> list[float]:
    """The hypervolume of each front, as a share of the box that all of them span and a tenth beyond."""
    fronts = [[objectives(trial, goal) for trial in trials] for trials in sets]
    every = np.asarray([point for points in fronts for point in points], float)
    if not len(every):
        return [0.0 for _ in fronts]
    low, spread = every.min(axis=0), np.ptp(every, axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    reference = [1.1] * every.shape[1]
    scaled = [((np.asarray(points) - low) / scale).tolist() if points else [] for points in fronts]
    return [round(hypervolume(points, reference) / 1.1 ** every.shape[1], 4) for points in scaled]


def differing(first: Any, second: Any, path: str = "") -> dict[str, Any]:
    """Path: the pair of values, wherever two JSON values differ; None where one has none.

    >>> differing({"seed": 1, "goal": {"budget": "60s"}}, {"seed": 2, "goal": {"budget": "60s"}})
    {'seed': [1, 2]}
    """
    if first == second:
        return {}
    if not (isinstance(first, Mapping) and isinstance(second, Mapping)):
        return {path: [first, second]}
    found: dict[str, Any] = {}
    for key in [*first, *(key for key in second if key not in first)]:
        found |= differing(first.get(key), second.get(key), f"{path}.{key}" if path else str(key))
    return found
