"""The searches of the ledger for people and programs who look on, also while they run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from modelmill.errors import UsageError
from modelmill.evaluate.importance import shares
from modelmill.evaluate.page import searched
from modelmill.evaluate.story import Story, family, figures, of_spec, recipe
from modelmill.evaluate.words import UNITS, duration, figure, why_lost, words
from modelmill.search.course import improvements, leaders, volumes, walked
from modelmill.search.ledger.studies import StudyRow, studies, study, trials_of
from modelmill.search.pareto import best
from modelmill.spec import COSTS, Budget
from modelmill.store.database import Database
from modelmill.trial import Trial

Row = dict[str, Any]

MOST_RUNS = 200
"""Runs that a list holds: the newest."""

MOST_TRIALS = 12
"""Of the trials that ended last."""


@dataclass(frozen=True)
class Runs:
    """Reads the ledger anew for every answer."""

    database: Database

    def listed(self) -> list[Row]:
        """Every run as a line of a list, the newest first."""
        return [summary(row) for row in studies(self.database)[:MOST_RUNS]]

    def one(self, id: int) -> Row | None:
        """A run with its trials as JSON has it; the curves of those that run alone. None where there is none."""
        found = self._found(id)
        if found is None:
            return None
        row, trials = found
        told = _story(row, trials)
        return {
            **summary(row),
            "stamp": stamp(row, trials),
            "best": told.number,
            "front": [trial.number for trial in leaders(trials, row.goal)],
            "moves": list(told.moves),
            "volumes": [list(pair) for pair in told.volumes],
            "trials": [_slim(trial) for trial in trials],
        }

    def live(self, id: int, since: str = "") -> Row | None:
        """What the page of a run shows, by name; None where there is none; only a stamp if nothing changed."""
        found = self._found(id)
        if found is None:
            return None
        row, trials = found
        now = stamp(row, trials)
        if now == since:
            return {"stamp": now, "changed": False}
        told = _story(row, trials)
        asked = [*(name for name, _ in row.goal.objectives), *row.goal.limit]
        lost = why_lost(trials, row.goal, told.number if told.number is not None else -1)
        chains = msgspec.to_builtins(walked(trials, row.goal))
        details = {**shares(trials, asked, told.metric), "runners_up": lost, "chains": chains}
        return {
            "stamp": now,
            "changed": True,
            "run": summary(row),
            "best": _best(told),
            "sentences": progress(row, trials),
            "metric": words(told.metric),
            "running": [_going(told, trial) for trial in trials if trial.state == "running"],
            "latest": _latest(told, {one["trial"]: one["why"] for one in lost}),
            **searched(told, details),
        }

    def _found(self, id: int) -> tuple[StudyRow, list[Trial]] | None:
        try:
            return study(self.database, id), trials_of(self.database, id)
        except UsageError:
            return None


def summary(row: StudyRow) -> Row:
    """A run in a few words."""
    return {
        "id": row.id,
        "name": row.name,
        "state": row.state,
        "goal": msgspec.to_builtins(row.goal),
        "asked": _asked(row),
        "counts": row.counts,
        "created_ms": row.created_ms,
        "seconds": row.seconds,
        "seed": row.seed,
    }


def _asked(row: StudyRow) -> str:
    """The goal as a person says it."""
    said = [f"{way} {words(name)}" for name, way in row.goal.objectives]
    said += [
        f"limit {words(name)} {figure(limit)} {UNITS.get(name, '')}".rstrip() for name, limit in row.goal.limit.items()
    ]
    return ", ".join(said)


def stamp(row: StudyRow, trials: list[Trial]) -> str:
    """What changes whenever there is something new to see."""
    points = sum(len(trial.curve) for trial in trials if trial.state == "running")
    counts = "-".join(f"{state}{count}" for state, count in sorted(row.counts.items()))
    return f"{row.state}-{counts}-{points}"


def _slim(trial: Trial) -> Row:
    kept = trial if trial.state == "running" else msgspec.structs.replace(trial, curve=())
    table: Row = msgspec.to_builtins(kept)
    return table


def _story(row: StudyRow, trials: list[Trial]) -> Story:
    champion = best(trials, row.goal)
    known = [name for name, _ in row.goal.objectives if name not in COSTS]
    seen = next((name for trial in trials for name in trial.metrics), "")
    return Story(
        trials=tuple(trials),
        metric=known[0] if known else seen,
        objectives=row.goal.objectives,
        limits=row.goal.limit,
        **of_spec(row.spec),
        number=champion.number if champion else None,
        moves=tuple(improvements(trials, row.goal)),
        volumes=tuple(volumes(trials, row.goal)),
    )


def progress(row: StudyRow, trials: list[Trial]) -> list[str]:
    """How far a run has come, in short sentences."""
    ended = sum(trial.state != "running" for trial in trials)
    said = [f"{row.state}: {ended} {'trial' if ended == 1 else 'trials'} ended in {duration(row.seconds)}"]
    kept = leaders(trials, row.goal)
    said += [f"{len(kept)} on the front"] if kept else []
    for state in ("running", "stopped", "refused", "failed"):
        said += [f"{row.counts[state]} {state}"] if row.counts.get(state) else []
    if row.state == "running":
        said += left(row)
    return said


def left(row: StudyRow) -> list[str]:
    """About how long the search goes on, as far as its budget tells."""
    budget = Budget.parse(row.goal.budget)
    if budget.seconds is not None:
        return [f"the budget is {duration(budget.seconds)}"]
    ended = sum(count for state, count in row.counts.items() if state not in ("running", "refused"))
    if not budget.trials or not ended:
        return [f"the budget is {budget.trials} trials"]
    rest = max(budget.trials - ended, 0)
    return [f"{rest} of {budget.trials} trials to go, about {duration(rest * row.seconds / ended)}"]


def _best(told: Story) -> Row:
    """The best so far, in words; empty where nothing keeps the limits yet."""
    if told.winner is None:
        return {}
    return {"number": told.winner.number, "is": _called(told, told.winner), "figures": _figures(told, told.winner)}


def _called(told: Story, trial: Trial) -> str:
    return ", ".join(part for part in (family(told, trial), recipe(trial)) if part)


def _figures(told: Story, trial: Trial) -> list[tuple[str, str]]:
    known = figures(trial)
    names = dict.fromkeys([told.metric, *told.asked, "size_kb", "latency_ms"])
    return [(words(name), f"{figure(known[name])} {UNITS.get(name, '')}".rstrip()) for name in names if name in known]


def _going(told: Story, trial: Trial) -> Row:
    """A trial that runs: what it is, and the last that was heard of it."""
    judged = [point for point in trial.curve if any(name.startswith("valid_") for name in point.values)]
    point = (judged or trial.curve)[-1] if trial.curve else None
    values = list(point.values.items())[-3:] if point else []
    heard = ", ".join(f"{words(name.removeprefix('valid_'))} {figure(value)}" for name, value in values)
    return {"number": trial.number, "is": _called(told, trial), "step": point.step if point else 0, "heard": heard}


def _latest(told: Story, why: dict[int, str]) -> list[Row]:
    """The trials that ended last, the last one first."""
    ended = [trial for trial in told.trials if trial.state != "running"][-MOST_TRIALS:]
    return [
        {
            "number": trial.number,
            "is": _called(told, trial),
            "state": trial.state,
            "figures": ", ".join(value for _, value in _figures(told, trial)),
            "why": "the best so far" if trial.number == told.number else why.get(trial.number, ""),
        }
        for trial in reversed(ended)
    ]
