"""A report as the page tells it: its trials read, and what each is called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import msgspec

from modelmill.evaluate.words import UNITS, figure, higher, words
from modelmill.report import Report
from modelmill.spec import FLOORS
from modelmill.trial import Trial


@dataclass(frozen=True)
class Story:
    """A report with its trials read, and what it is mostly about: one metric."""

    report: Report
    trials: tuple[Trial, ...]
    metric: str
    families: tuple[str, ...]

    @property
    def winner(self) -> Trial | None:
        """The trial that won."""
        number = self.report.details.get("winner")
        return next((trial for trial in self.trials if trial.number == number), None)

    @property
    def limits(self) -> Mapping[str, float]:
        """Name: the limit that was asked for."""
        return {name: limit.limit for name, limit in self.report.limits.items()}


def story(report: Report) -> Story:
    """Read a report's details."""
    trials = tuple(_trial(table) for table in report.details.get("trials", ()))
    counted = Counter(family(report, trial) for trial in trials)
    return Story(report, trials, _metric(report), tuple(name for name, _ in counted.most_common()))


def _trial(table: Mapping[str, Any]) -> Trial:
    """A trial as JSON had it; a figure that was not defined came as null and is left out."""
    kept = {**table, "metrics": _finite(table.get("metrics", {})), "costs": _finite(table.get("costs", {}))}
    kept["curve"] = [{**point, "values": _finite(point["values"])} for point in table.get("curve", ())]
    return msgspec.convert(kept, Trial)


def _finite(figures: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if isinstance(value, int | float) and isfinite(value)}


def _metric(report: Report) -> str:
    goal = report.spec.get("goal", {})
    asked = [name for key in ("maximize", "minimize") for name in listed(goal.get(key, ()))]
    return next((name for name in asked if name in report.metrics), next(iter(report.metrics), ""))


def listed(value: Any) -> list[str]:
    """The names in a goal, which may be one or several."""
    return [value] if isinstance(value, str) else list(value)


def family(report: Report, trial: Trial) -> str:
    """The family of a trial's body."""
    return str(trial.settings.get("arch") or report.spec.get("arch", {}).get("method") or "model")


def recipe(trial: Trial) -> str:
    """What a trial was compressed with, in a few words."""
    steps = []
    for key, value in trial.settings.items():
        if key.partition(".")[0] != "compress" or value is not True:
            continue
        name = ".".join(part for part in key.split(".")[1:] if not part.isdigit())
        ratio = trial.settings.get(f"{key}.ratio")
        steps.append(_step(name, ratio))
    return ", ".join(steps)


def _step(name: str, ratio: Any) -> str:
    group, _, kind = name.partition(".")
    share = f" {100 * float(ratio):.0f} %" if isinstance(ratio, int | float) else ""
    said = {"prune": f"pruned{share}", "quantize": f"{kind} int8", "distill": f"distilled{share}"}
    return said.get(group, name)


def charged(trial: Trial) -> dict[str, float]:
    """A trial's costs, with the size in kilobytes."""
    size = trial.costs.get("size_bytes")
    return {**({"size_kb": size / 1000} if size is not None else {}), **trial.costs}


def keeps_limits(told: Story, trial: Trial) -> bool:
    """Whether a trial was finished and keeps every limit."""
    return trial.state == "done" and all(_keeps(told, trial, name, limit) for name, limit in told.limits.items())


def _keeps(told: Story, trial: Trial, name: str, limit: float) -> bool:
    value = {**trial.metrics, **charged(trial)}.get(name)
    if value is None:
        return True
    floor = name in FLOORS or (name in told.report.metrics and higher(name))
    return value >= limit if floor else value <= limit


def tip(told: Story, trial: Trial) -> str:
    """What a trial's mark tells when pointed at."""
    parts = [f"trial {trial.number}: {family(told.report, trial)}", recipe(trial)]
    if told.metric in trial.metrics:
        parts.append(f"{words(told.metric)} {figure(trial.metrics[told.metric])}")
    for cost in ("size_kb", "latency_ms"):
        if cost in charged(trial):
            parts.append(f"{figure(charged(trial)[cost])} {UNITS[cost]}")
    return ", ".join(part for part in parts if part)
