"""What was tried, as pictures of two figures each, and the table of trials."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from math import inf
from typing import Any

from modelmill.evaluate.charts.front import Mark, Side, front
from modelmill.evaluate.story import Story, charged, family, few, figures, keeps_limits, recipe, tip
from modelmill.evaluate.words import figure, words
from modelmill.trial import Trial

Row = dict[str, Any]

TINTS = 6
"""Colors of the style sheet that tell families apart."""
MOST_MARKS = 450
"""Trials that one picture shows; of more the best and an even choice of the others."""
MOST_PICTURES = 4
MOST_ROWS = 250
"""Trials that the table lists; all of them are in the JSON of the report."""


def tried(told: Story) -> list[str]:
    """A picture of every pair of figures that matters, with the front of both and the limits."""
    pictures = []
    for across, up in _pairs(told):
        known = [trial for trial in told.trials if {across, up} <= figures(trial).keys()]
        marks = [_mark(told, trial, across, up) for trial in few(told, known, MOST_MARKS)]
        sides = (Side(name, told.more(name), told.limits.get(name)) for name in (across, up))
        if marks:
            pictures.append(front(marks, *sides))
    return pictures


def _pairs(told: Story) -> list[tuple[str, str]]:
    """The quality against every cost that was asked about; then the other pairs of objectives.

    Where one thing alone was asked about, against size and latency.
    """
    known = {name for trial in told.trials if told.metric in trial.metrics for name in charged(trial)}
    costs = [name for name in told.asked if name in known]
    costs = costs if len(costs) > 1 else list(dict.fromkeys([*costs, "size_kb", "latency_ms"]))
    metrics = [name for name, _ in told.objectives if name != told.metric and name not in known]
    pairs = [(name, told.metric) for name in [*costs, *metrics] if name in known or name in metrics]
    objectives = [name for name, _ in told.objectives if name != told.metric]
    return [*pairs, *combinations(objectives, 2)][:MOST_PICTURES]


def legend(told: Story) -> list[tuple[int, str]]:
    """The families of bodies with their colors."""
    return [(i % TINTS, name) for i, name in enumerate(told.families)]


def tint(told: Story, trial: Trial) -> int:
    """The color of a trial's family."""
    return told.families.index(family(told, trial)) % TINTS


def _mark(told: Story, trial: Trial, across: str, up: str) -> Mark:
    known = figures(trial)
    kept, won = keeps_limits(told, trial), trial.number == told.number
    return Mark(known[across], known[up], tint(told, trial), tip(told, trial), kept, won, trial.number)


def table(told: Story, why: Mapping[int, str]) -> list[Row]:
    """The trials: the winner first, then by quality; with why each lost."""
    sign = -1 if told.more(told.metric) else 1
    order = sorted(
        told.trials,
        key=lambda trial: (
            trial.number != told.number,
            trial.state != "done",
            sign * trial.metrics[told.metric] if told.metric in trial.metrics else inf,
        ),
    )
    return [_row(told, trial, why.get(trial.number, "")) for trial in order[:MOST_ROWS]]


def _row(told: Story, trial: Trial, why: str) -> Row:
    costs = charged(trial)
    winner = trial.number == told.number
    shown = {"size": "size_kb", "latency": "latency_ms"}
    return {
        "number": trial.number,
        "family": family(told, trial),
        "tint": tint(told, trial),
        "recipe": recipe(trial),
        "metric": figure(trial.metrics[told.metric]) if told.metric in trial.metrics else "",
        **{key: figure(costs[cost]) if cost in costs else "" for key, cost in shown.items()},
        "state": trial.state,
        "winner": winner,
        "why": "won" if winner else why or trial.error.partition("\n")[0],
        "settings": _settings(trial),
    }


def _settings(trial: Trial) -> str:
    """The numbers of a trial, without what its family and recipe say already."""
    kept = {
        ".".join(key.split(".")[-2:]) if "compress" in key else key.rpartition(".")[2]: value
        for key, value in trial.settings.items()
        if key != "arch" and not isinstance(value, bool)
    }
    said = (f"{words(key)} {figure(v) if isinstance(v, int | float) else v}" for key, v in kept.items())
    return ", ".join(said)
