"""How the trials learned: the winner's curves among the others', and what was stopped, refused or failed, and why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import median
from typing import Any

from modelmill.evaluate.charts.curves import Course, curves
from modelmill.evaluate.diagnosis import restarts
from modelmill.evaluate.story import Story, family
from modelmill.evaluate.words import duration, figure, words
from modelmill.trial import Trial

Row = dict[str, Any]

MOST_LINES = 40
"""Curves of other trials that are drawn behind the winner's."""

MOST_NAMED = 6
"""Trials of one kind of ending that are named by their numbers."""

ENDINGS = {"stopped": "stopped", "refused": "refused before training", "failed": "failed"}


def learning(told: Story) -> list[str]:
    """The winner's loss, and the quality of all trials, over epochs."""
    winner = told.winner
    pictures = []
    if winner is not None and len(winner.curve) > 1:
        losses = [
            Course(label, style, _course(winner, name), winner.number)
            for label, style, name in (("training", "first", "train_loss"), ("validation", "second", "valid_loss"))
        ]
        if any(len(course.points) > 1 for course in losses):
            pictures.append(curves(losses, "loss", _breaks(winner)))
    others = [_other(told, trial) for trial in told.trials if trial.number != told.number]
    others = _chosen([course for course in others if len(course.points) > 1])
    own = _course(winner, f"valid_{told.metric}") if winner is not None else []
    if winner is not None and len(own) > 1:
        won = Course("the winner", "second", own, winner.number)
        pictures.append(curves([*others, won], words(told.metric), _breaks(winner)))
    elif others:
        pictures.append(curves(others, words(told.metric)))
    return pictures


def _other(told: Story, trial: Trial) -> Course:
    name = f"trial {trial.number} ({family(told, trial)})"
    points = _course(trial, f"valid_{told.metric}")
    style = "alive" if trial.state == "running" else "faint"
    return Course(name, style, points, trial.number, _given_up(trial))


def _given_up(trial: Trial) -> str:
    """Why a trial was stopped, as the end of a sentence; empty where it was not."""
    return (reason(trial) if trial.state == "stopped" else "") and f"was {_note(trial)}"


def _chosen(courses: Sequence[Course]) -> list[Course]:
    """Not too many: half of the room is for those that were stopped, and running ones always have some."""
    running = [course for course in courses if course.style == "alive"]
    stopped = [course for course in courses if course.stopped]
    rest = [course for course in courses if not course.stopped and course.style != "alive"]
    room = max(MOST_LINES // 2, MOST_LINES - len(rest))
    stopped = _evenly(stopped, room)
    return [*_evenly(rest, MOST_LINES - len(stopped)), *stopped, *running]


def _evenly(courses: Sequence[Course], most: int) -> list[Course]:
    step = max(len(courses) / most, 1.0)
    return [courses[int(i * step)] for i in range(min(most, len(courses)))]


def _course(trial: Trial, name: str) -> list[tuple[float, float]]:
    """A value over the points of a curve, counted through where a fold or compression began its epochs anew."""
    return [(float(i + 1), point.values[name]) for i, point in enumerate(trial.curve) if name in point.values]


def _breaks(trial: Trial) -> list[tuple[float, str]]:
    """Where the epochs of a curve begin anew: with the next fold, or with compression."""
    found = []
    for at in restarts(trial.curve):
        before, after = trial.curve[at - 2], trial.curve[at - 1]
        found.append((float(at), f"fold {after.folds + 1}" if after.folds > before.folds else "compressed"))
    return found if len(found) <= 12 else found[:: len(found) // 12 + 1]


def endings(told: Story) -> list[Row]:
    """What did not run to its end: of each kind how many, where, why, and what it took, the most frequent first."""
    groups: dict[tuple[str, str], list[Trial]] = {}
    for trial in told.trials:
        if trial.state in ENDINGS:
            groups.setdefault((trial.state, re.sub(r"\d[\d.,]*", "…", reason(trial))), []).append(trial)
    return [
        {
            "count": len(trials),
            "what": ENDINGS[state],
            "why": reason(trials[0]) if len({reason(trial) for trial in trials}) == 1 else _like(trials),
            "where": _where(trials),
            "took": duration(sum(trial.seconds for trial in trials)),
            "trials": _numbers(trials),
        }
        for (state, _), trials in sorted(groups.items(), key=lambda group: -len(group[1]))
    ]


def _like(trials: Sequence[Trial]) -> str:
    """The reason of the first of several whose reasons differ in their figures alone."""
    return f"{reason(trials[0])} (#{trials[0].number}; the others alike)"


def reason(trial: Trial) -> str:
    """Why a trial did not run to its end, without where that was."""
    if trial.state == "stopped":
        return re.sub(r"^stopped at (fold \d+, )?step \d+: ", "", _note(trial))
    return (trial.error or _note(trial)).strip().partition("\n")[0] or "without a word"


def _note(trial: Trial) -> str:
    """The last note of a trial, which says how it ended."""
    return trial.notes[-1].rstrip(".") if trial.notes else ""


def _where(trials: Sequence[Trial]) -> str:
    """The steps at which trials ended, in words."""
    steps = sorted(trial.curve[-1].step for trial in trials if trial.curve)
    if not steps:
        return ""
    folds = {trial.curve[-1].folds for trial in trials if trial.curve}
    fold = f" of fold {figure(float(min(folds) + 1))}" if len(folds) == 1 and folds != {0} else ""
    if steps[0] == steps[-1]:
        return f"at step {steps[0]}{fold}"
    return f"at steps {steps[0]} to {steps[-1]}, half of them by step {figure(float(int(median(steps))))}{fold}"


def _numbers(trials: Sequence[Trial]) -> str:
    named = ", ".join(f"#{trial.number}" for trial in trials[:MOST_NAMED])
    return f"{named} …" if len(trials) > MOST_NAMED else named


def saved(told: Story) -> str:
    """What stopping was good for, in a sentence; empty where nothing was stopped."""
    stopped = [len(trial.curve) for trial in told.trials if trial.state == "stopped" and trial.curve]
    ended = [len(trial.curve) for trial in told.trials if trial.state == "done" and trial.curve]
    if not stopped or not ended:
        return ""
    return (
        f"Stopped trials ran {figure(round(sum(stopped) / len(stopped), 1))} epochs on average, "
        f"those that ran to their end {figure(round(sum(ended) / len(ended), 1))}."
    )
