"""What each section on the search and the training shows: pictures and the table of trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelmill.evaluate.charts import curves
from modelmill.evaluate.charts.front import Mark, Scale, front
from modelmill.evaluate.story import Story, charged, family, keeps_limits, listed, recipe, tip
from modelmill.evaluate.words import figure, higher, restarts, words
from modelmill.spec import FLOORS
from modelmill.trial import Trial

Row = dict[str, Any]

TINTS = 6
"""Colors of the style sheet that tell families apart."""
MOST_LINES = 40
"""Curves of other trials that are drawn behind the winner's."""


def tried(told: Story) -> Row:
    """The pictures of what was tried, with their legend."""
    metric = told.metric
    scored = [trial for trial in told.trials if metric in trial.metrics]
    pictures = []
    for cost in _axes(told, scored):
        marks = [_mark(told, trial, cost) for trial in scored if cost in charged(trial)]
        scale = Scale(cost, metric, higher(metric), cost in FLOORS, told.limits.get(cost))
        pictures.append(front(marks, scale))
    if len(scored) > 1:
        past = [(trial.number, trial.metrics[metric], keeps_limits(told, trial), tip(told, trial)) for trial in scored]
        pictures.append(curves.progress(past, metric, higher(metric)))
    return {"pictures": pictures, "legend": [(i % TINTS, name) for i, name in enumerate(told.families)]}


def _axes(told: Story, scored: Sequence[Trial]) -> list[str]:
    """The costs that the pictures show: those that were asked about, else size and latency."""
    goal = told.report.spec.get("goal", {})
    asked = [*told.limits, *listed(goal.get("minimize", ()))]
    known = {name for trial in scored for name in charged(trial)}
    return [name for name in dict.fromkeys([*asked, "size_kb", "latency_ms"]) if name in known][:2]


def _mark(told: Story, trial: Trial, cost: str) -> Mark:
    tint = told.families.index(family(told.report, trial)) % TINTS
    is_winner = trial.number == told.report.details.get("winner")
    return Mark(
        charged(trial)[cost], trial.metrics[told.metric], tint, tip(told, trial), keeps_limits(told, trial), is_winner
    )


def learning(told: Story) -> list[str]:
    """The winner's loss, and its quality among the other trials', over epochs."""
    winner = told.winner
    if winner is None or len(winner.curve) < 2:
        return []
    breaks, quality_name = restarts(winner.curve), f"valid_{told.metric}"
    losses = [
        (label, style, _course(winner, name))
        for label, style, name in (("training", "first", "train_loss"), ("validation", "second", "valid_loss"))
    ]
    pictures = []
    if any(len(points) > 1 for _, _, points in losses):
        pictures.append(curves.curves(losses, "loss", breaks))
    others = [(f"trial {trial.number}", "faint", _course(trial, quality_name)) for trial in told.trials]
    own = _course(winner, quality_name)
    if len(own) > 1:
        rest = [line for line in others if len(line[2]) > 1 and line[0] != f"trial {winner.number}"][:MOST_LINES]
        pictures.append(curves.curves([*rest, ("the winner", "second", own)], words(told.metric), breaks))
    return pictures


def _course(trial: Trial, name: str) -> list[tuple[float, float]]:
    """A value over the points of a curve, counted through where compression began its epochs anew."""
    return [(float(i + 1), point.values[name]) for i, point in enumerate(trial.curve) if name in point.values]


def table(told: Story) -> list[Row]:
    """Every trial: the winner first, then by quality; with why it lost."""
    why = {row["trial"]: row["why"] for row in told.report.details.get("runners_up") or ()}
    sign = 1 if not higher(told.metric) else -1
    worst = float("inf")
    order = sorted(
        told.trials,
        key=lambda trial: (
            trial.number != told.report.details.get("winner"),
            trial.state != "done",
            sign * trial.metrics[told.metric] if told.metric in trial.metrics else worst,
        ),
    )
    return [_row(told, trial, why.get(trial.number, "")) for trial in order]


def _row(told: Story, trial: Trial, why: str) -> Row:
    costs = charged(trial)
    name = family(told.report, trial)
    winner = trial.number == told.report.details.get("winner")
    shown = {"size": "size_kb", "latency": "latency_ms"}
    return {
        "number": trial.number,
        "family": name,
        "tint": told.families.index(name) % TINTS,
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
