"""What mattered in the search: the share of each setting for everything asked about, and all settings side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from modelmill.evaluate.charts.bars import bars
from modelmill.evaluate.charts.parallel import Rail, Thread, parallel
from modelmill.evaluate.story import Story, few, figures, keeps_limits, tip
from modelmill.evaluate.words import words
from modelmill.trial import Trial

MOST_BARS = 10
MOST_RAILS = 8
"""Settings that the parallel coordinates show: those that mattered most."""
MOST_FIGURES = 4
MOST_LINES = 260
SHADES = 5
"""Colors of the style sheet from poor to good."""


def importance(shares: Mapping[str, Mapping[str, float]]) -> list[tuple[str, str]]:
    """For every metric and cost its name and the bars of what moved it."""
    found = []
    for name, settings in shares.items():
        ranked = sorted(settings.items(), key=lambda item: -item[1])[:MOST_BARS]
        if ranked:
            items = [(setting, share, f"{100 * share:.0f} %") for setting, share in ranked]
            found.append((words(name), bars(items, f"importance for {words(name)}")))
    return found


def interplay(pairs: Sequence[Sequence[Any]], metric: str, most: int = 3) -> list[str]:
    """Settings that count together, in sentences."""
    return [
        f"{first} and {second} together explain {100 * share:.0f} % more of {words(metric)} than each by itself."
        for first, second, share in pairs[:most]
    ]


def coordinates(told: Story, shares: Mapping[str, float]) -> str:
    """The parallel coordinates of all trials that ended with a figure; empty for fewer than two, or nothing to vary."""
    known = [trial for trial in told.trials if told.metric in trial.metrics]
    settings = _settings(told, known, shares)
    if len(known) < 2 or not settings:
        return ""
    shades = _shades(told, known)
    shown = sorted(few(told, known, MOST_LINES), key=lambda trial: _depth(told, trial))
    short = _short(settings)
    rails = [Rail(short[name], [trial.settings.get(name) for trial in shown]) for name in settings]
    named = [name for name in [*told.asked, told.metric, "size_kb", "latency_ms"] if name]
    for name in [*dict.fromkeys(named)][:MOST_FIGURES]:
        values = [figures(trial).get(name) for trial in shown]
        if any(value is not None for value in values):
            rails.append(Rail(words(name), values, told.more(name), told.limits.get(name)))
    threads = [Thread(trial.number, _style(told, trial, shades), tip(told, trial)) for trial in shown]
    return parallel(rails, threads)


def _settings(told: Story, trials: Sequence[Trial], shares: Mapping[str, float]) -> list[str]:
    """The settings that mattered most, or, as far as that is not known, those that most trials have, and that vary."""
    counted = Counter(name for trial in trials for name in trial.settings)
    varying = [name for name in counted if len({str(trial.settings.get(name)) for trial in trials}) > 1]
    return sorted(varying, key=lambda name: (-shares.get(name, 0.0), -counted[name]))[:MOST_RAILS]


def _short(names: Sequence[str]) -> dict[str, str]:
    """Settings by the last parts of their names, as many as tell them apart.

    >>> _short(["arch", "arch.mlp.width", "arch.cnn.width", "train.learning_rate"])
    {'arch': 'arch', 'arch.mlp.width': 'mlp width', 'arch.cnn.width': 'cnn width', \
'train.learning_rate': 'learning rate'}
    """
    found = {}
    for name in names:
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            tail = parts[-count:]
            if not tail[0].isdigit() and not any(
                other != name and other.split(".")[-count:] == tail for other in names
            ):
                break
        found[name] = " ".join(tail).replace("_", " ")
    return found


def _shades(told: Story, trials: Sequence[Trial]) -> dict[int, int]:
    """Trial: its quality among all, in fifths."""
    ranked = sorted(trials, key=lambda trial: trial.metrics[told.metric], reverse=not told.more(told.metric))
    return {trial.number: i * SHADES // len(ranked) for i, trial in enumerate(ranked)}


def _style(told: Story, trial: Trial, shades: Mapping[int, int]) -> str:
    if trial.number == told.number:
        return "thread won"
    return f"thread shade{shades[trial.number]}" if keeps_limits(told, trial) else "thread faint"


def _depth(told: Story, trial: Trial) -> tuple[bool, bool, float]:
    """What is drawn first: what breaks a limit, then by quality; the winner last."""
    value = trial.metrics[told.metric]
    return trial.number == told.number, keeps_limits(told, trial), value if told.more(told.metric) else -value
