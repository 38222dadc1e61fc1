"""A search as a page tells it: its trials read, what they are judged by, and what each is called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Any

import msgspec

from modelmill.evaluate.words import UNITS, figure, higher, words
from modelmill.report import Report
from modelmill.spec import COSTS, FLOORS, KILOBYTES
from modelmill.trial import Trial

IN_BYTES = frozenset({"static", "dynamic", "smooth", "fixed_point", "lsq", "pact", "gptq"})
"""Quantizations after which sums are computed in bytes; others store weights in fewer bits."""


@dataclass(frozen=True)
class Story:
    """The trials of one search, ended or not, and what it is about."""

    trials: tuple[Trial, ...]
    metric: str
    """The quality that it is mostly about."""
    objectives: tuple[tuple[str, str], ...]
    """Names with `maximize` or `minimize`."""
    limits: Mapping[str, float]
    body: str
    """The family of all bodies where the search does not choose among several."""
    sampler: str = ""
    number: int | None = None
    """Of the winner."""
    moves: tuple[int, ...] = ()
    """Numbers of the trials that moved the search on."""
    volumes: tuple[tuple[int, float], ...] = ()
    """(trial, part of the box of objectives that the front had by then)."""

    @cached_property
    def winner(self) -> Trial | None:
        """The trial that won."""
        return next((trial for trial in self.trials if trial.number == self.number), None)

    @cached_property
    def families(self) -> tuple[str, ...]:
        """The families of bodies that were tried, the most frequent first."""
        return tuple(name for name, _ in Counter(family(self, trial) for trial in self.trials).most_common())

    @property
    def asked(self) -> list[str]:
        """What the goal names: the objectives and what is limited."""
        return list(dict.fromkeys([name for name, _ in self.objectives] + list(self.limits)))

    def more(self, name: str) -> bool:
        """Whether more of a metric or cost is better."""
        way = dict(self.objectives).get(name)
        if way is not None:
            return way == "maximize"
        return name in FLOORS if name in COSTS or name == "size_bytes" else higher(name)


def story(report: Report) -> Story:
    """Read a report's details."""
    details, goal = report.details, report.spec.get("goal", {})
    named = [(name, way) for way in ("maximize", "minimize") for name in _listed(goal.get(way, ()))]
    course = details.get("course") or {}
    return Story(
        trials=tuple(_trial(table) for table in details.get("trials", ())),
        metric=next((name for name, _ in named if name in report.metrics), next(iter(report.metrics), "")),
        objectives=tuple(named),
        limits={name: limit.limit for name, limit in report.limits.items()},
        **of_spec(report.spec),
        number=details.get("winner"),
        moves=tuple(course.get("moves", ())),
        volumes=tuple((int(number), float(share)) for number, share in course.get("volumes", ())),
    )


def of_spec(spec: Mapping[str, Any]) -> dict[str, str]:
    """What a spec says of the bodies and of the sampler, as fields of a story."""
    sampler = spec.get("search", {}).get("sampler", {})
    return {
        "body": str(spec.get("base") or spec.get("arch", {}).get("method") or "model"),
        "sampler": str(sampler.get("method", "") if isinstance(sampler, Mapping) else sampler),
    }


def _trial(table: Mapping[str, Any]) -> Trial:
    """A trial as JSON had it; a figure that was not defined came as null and is left out."""
    kept = {**table, "metrics": _finite(table.get("metrics", {})), "costs": _finite(table.get("costs", {}))}
    kept["curve"] = [{**point, "values": _finite(point["values"])} for point in table.get("curve", ())]
    return msgspec.convert(kept, Trial)


def _finite(figures: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if isinstance(value, int | float) and isfinite(value)}


def _listed(value: Any) -> list[str]:
    """The names in a goal, which may be one or several."""
    return [value] if isinstance(value, str) else list(value)


def family(told: Story, trial: Trial) -> str:
    """The family of a trial's body."""
    return str(trial.settings.get("arch") or told.body)


def recipe(trial: Trial) -> str:
    """What a trial was compressed with, in a few words; what was dropped is not in it."""
    if trial.steps:
        return ", ".join(_step(one.step, one.settings.get("ratio")) for one in trial.steps if one.kept)
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
    bytes_of = f"{kind} int8" if kind in IN_BYTES else kind.replace("_", " ")
    said = {"prune": f"pruned{share}", "quantize": bytes_of, "distill": f"distilled{share}"}
    return said.get(group, name)


def member(told: Story, trial: Trial) -> str:
    """Who suggested a trial: the sampler, or the one of a portfolio's samplers whose turn it was."""
    return str(trial.memo.get("member") or told.sampler or "the search")


def charged(trial: Trial) -> dict[str, float]:
    """A trial's costs, with sizes in kilobytes."""
    sizes = {name: trial.costs.get(bytes_) for name, bytes_ in KILOBYTES.items()}
    return {**{name: size / 1000 for name, size in sizes.items() if size is not None}, **trial.costs}


def figures(trial: Trial) -> dict[str, float]:
    """Everything that is known of a trial, metrics and costs, by name."""
    return {**charged(trial), **trial.metrics}


def keeps_limits(told: Story, trial: Trial) -> bool:
    """Whether a trial was finished and keeps every limit."""
    return trial.state == "done" and all(_keeps(told, trial, name, limit) for name, limit in told.limits.items())


def _keeps(told: Story, trial: Trial, name: str, limit: float) -> bool:
    value = figures(trial).get(name)
    if value is None:
        return True
    return value >= limit if told.more(name) else value <= limit


def few(told: Story, trials: Sequence[Trial], most: int) -> list[Trial]:
    """At most about `most` trials for a picture: the winner, those that moved the search on, and every so manieth."""
    if len(trials) <= most:
        return list(trials)
    always = {told.number, *told.moves}
    step = len(trials) / most
    evenly = {trials[int(i * step)].number for i in range(most)}
    return [trial for trial in trials if trial.number in always or trial.number in evenly]


def tip(told: Story, trial: Trial, beside: Iterable[str] = ()) -> str:
    """What a trial's mark tells when pointed at."""
    parts = [f"trial {trial.number}: {family(told, trial)}", recipe(trial)]
    known = figures(trial)
    for name in dict.fromkeys([told.metric, "size_kb", "latency_ms", *told.asked]):
        if name in known:
            parts.append(f"{figure(known[name])} {UNITS[name]}" if UNITS.get(name) else _said(name, known[name]))
    return ", ".join(part for part in [*parts, *beside] if part)


def _said(name: str, value: float) -> str:
    return f"{words(name)} {figure(value)}"
