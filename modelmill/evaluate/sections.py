"""Turns a report into what each section of its page shows: words, rows and pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import msgspec

from modelmill.evaluate.charts import bars, curves, errors
from modelmill.evaluate.charts.front import Mark, Scale, front
from modelmill.evaluate.words import UNITS, figure, higher, restarts, words
from modelmill.report import Report, Value
from modelmill.spec import FLOORS
from modelmill.trial import Trial

Row = dict[str, Any]

BODIES = {
    "linear": "a linear model",
    "tree": "a decision tree",
    "forest": "a forest of trees",
    "boosting": "an ensemble of boosted trees",
    "lightgbm": "an ensemble of boosted trees (LightGBM)",
    "mlp": "a small fully connected network",
    "cnn": "a convolutional network",
}
"""What a family is called in a sentence."""

COMPARED = {"size": ("larger", "smaller"), "latency": ("slower", "faster")}
"""What a cost is called that is greater, and one that is less."""

TINTS = 6


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
    asked = [name for key in ("maximize", "minimize") for name in _listed(goal.get(key, ()))]
    return next((name for name in asked if name in report.metrics), next(iter(report.metrics), ""))


def _listed(value: Any) -> list[str]:
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


def sentences(told: Story) -> list[str]:
    """What came out, in two or three sentences."""
    report, winner = told.report, told.winner
    body = BODIES.get(family(report, winner), f"a {family(report, winner)}") if winner else "a model"
    how = f" ({recipe(winner)})" if winner and recipe(winner) else ""
    tried = report.trials.done + report.trials.stopped + report.trials.failed
    found = f", the best of {tried} candidates in {duration(report.seconds)}" if tried else ""
    said = [f"{report.name} is {body}{how}{found}."]
    if told.metric:
        value = report.metrics[told.metric]
        seen = {"test": "On rows that no search has seen", "validation": "On the validation rows"}
        where = seen.get(value.split, "On the rows that it learned from")
        said.append(f"{where}, its {words(told.metric)} is {quality(value)}.")
    latency, size = report.costs.get("latency_ms"), report.costs.get("size_bytes")
    if latency is not None and size is not None:
        said.append(f"A row takes {figure(latency)} ms on one thread; the file served has {figure(size / 1000)} kB.")
    return said


def quality(value: Value) -> str:
    """A metric with its interval in words."""
    if value.interval is None:
        return figure(value.value)
    low, high = value.interval
    return f"{figure(value.value)} ({figure(low)} to {figure(high)})"


def duration(seconds: float) -> str:
    """A length of time as a person says it.

    >>> duration(58.6), duration(754)
    ('59 s', '12 min 34 s')
    """
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def limits(told: Story) -> list[Row]:
    """Every limit with a gauge."""
    rows = []
    for name, limit in told.report.limits.items():
        floor = name in FLOORS or (name in told.report.metrics and higher(name))
        unit = UNITS.get(name, "")
        verdict = "kept" if limit.kept else "missed"
        tip = f"{words(name)}: {figure(limit.value)} {unit}, {'at least' if floor else 'at most'} {figure(limit.limit)}"
        rows.append(
            {
                "name": words(name),
                "value": figure(limit.value),
                "limit": f"{'≥' if floor else '≤'} {figure(limit.limit)} {unit}".strip(),
                "verdict": verdict,
                "gauge": bars.gauge(limit.value, limit.limit, limit.kept, floor, tip),
            }
        )
    return rows


def metrics(told: Story) -> list[Row]:
    """Every metric with its interval, beside the uncompressed model's."""
    plain = told.report.baseline.metrics
    rows = []
    for name, value in told.report.metrics.items():
        interval = value.interval or (value.value, value.value)
        other = plain[name].value if name in plain else None
        both = [*interval, value.value, *([other] if other is not None else [])]
        within = (0.0, max(both) * 1.1 or 1.0) if not higher(name) else _within(both)
        tip = f"{words(name)}: {quality(value)}; scale from {figure(within[0])} to {figure(within[1])}"
        rows.append(
            {
                "name": words(name),
                "value": figure(value.value),
                "interval": f"{figure(interval[0])} – {figure(interval[1])}" if value.interval else "",
                "baseline": figure(plain[name].value) if name in plain else "",
                "picture": bars.whisker(value.value, interval, other, within, tip) if isfinite(value.value) else "",
            }
        )
    return rows


def _within(values: Sequence[float]) -> tuple[float, float]:
    """The part of 0 to 1 that a bounded metric is shown on: the upper half where all values lie there."""
    low = min(values)
    return next((bottom for bottom in (0.9, 0.5, 0.0) if low >= bottom), min(low, -1.0)), 1.0


def costs(told: Story) -> list[Row]:
    """Every cost beside the uncompressed model's."""
    rows = []
    energy = "energy (modelled)" if told.report.details.get("energy_modelled") else "energy"
    for name, value, plain in _costs(told.report):
        tip = f"{words(name)}: {figure(value)}, uncompressed {figure(plain) if plain is not None else 'not measured'}"
        rows.append(
            {
                "name": energy if name == "energy_mj" else words(name),
                "value": figure(value),
                "unit": UNITS.get(name, ""),
                "baseline": figure(plain) if plain is not None else "",
                "change": change(name, value, plain),
                "picture": bars.pair(value, plain, tip) if plain is not None else "",
            }
        )
    return rows


def _costs(report: Report) -> list[tuple[str, float, float | None]]:
    found = [(name, value, report.baseline.costs.get(name)) for name, value in report.costs.items()]
    batch = report.details.get("latency", {}).get("b32", {})
    batch = {"p50": batch} if isinstance(batch, int | float) else batch
    if batch.get("p50") is not None:
        found.insert(2, ("latency_b32_ms", batch["p50"], batch.get("baseline_p50")))
    kilobytes = [
        ("size_kb", v / 1000, p / 1000 if p is not None else None) for n, v, p in found if n == "size_bytes" and v
    ]
    listed = [
        row for row in found if row[0] not in ("size_bytes", "size_kb") and not row[0].startswith("latency_ratio")
    ]
    return [(name, value, plain) for name, value, plain in [*kilobytes, *listed] if value is not None]


def change(name: str, value: float, plain: float | None) -> str:
    """How many times better or worse than uncompressed.

    >>> change("size_kb", 10, 31), change("memory_mb", 10, 10.2), change("throughput_rps", 30, 10)
    ('3.1× smaller', 'the same', '3.0× more')
    """
    if not plain or not value:
        return ""
    ratio = value / plain
    if 1 / 1.05 < ratio < 1.05:
        return "the same"
    more, less = COMPARED.get(name.partition("_")[0], ("more", "less"))
    return f"{ratio:.1f}× {more}" if ratio > 1 else f"{1 / ratio:.1f}× {less}"


def tried(told: Story) -> Row:
    """The pictures of what was tried, with their legend."""
    metric = told.metric
    scored = [trial for trial in told.trials if metric in trial.metrics]
    pictures = []
    for cost in _axes(told, scored):
        marks = [_mark(told, trial, cost) for trial in scored if cost in _charged(trial)]
        scale = Scale(cost, metric, higher(metric), cost in FLOORS, told.limits.get(cost))
        pictures.append(front(marks, scale))
    if len(scored) > 1:
        past = [(trial.number, trial.metrics[metric], _kept(told, trial), _tip(told, trial)) for trial in scored]
        pictures.append(curves.progress(past, metric, higher(metric)))
    return {"pictures": pictures, "legend": [(i % TINTS, name) for i, name in enumerate(told.families)]}


def _charged(trial: Trial) -> dict[str, float]:
    """A trial's costs, with the size in kilobytes."""
    size = trial.costs.get("size_bytes")
    return {**({"size_kb": size / 1000} if size is not None else {}), **trial.costs}


def _axes(told: Story, scored: Sequence[Trial]) -> list[str]:
    """The costs that the pictures show: those that were asked about, else size and latency."""
    goal = told.report.spec.get("goal", {})
    asked = [*told.limits, *_listed(goal.get("minimize", ()))]
    known = {name for trial in scored for name in _charged(trial)}
    return [name for name in dict.fromkeys([*asked, "size_kb", "latency_ms"]) if name in known][:2]


def _mark(told: Story, trial: Trial, cost: str) -> Mark:
    tint = told.families.index(family(told.report, trial)) % TINTS
    is_winner = trial.number == told.report.details.get("winner")
    return Mark(
        _charged(trial)[cost], trial.metrics[told.metric], tint, _tip(told, trial), _kept(told, trial), is_winner
    )


def _kept(told: Story, trial: Trial) -> bool:
    return trial.state == "done" and all(_keeps(told, trial, name, limit) for name, limit in told.limits.items())


def _keeps(told: Story, trial: Trial, name: str, limit: float) -> bool:
    value = {**trial.metrics, **_charged(trial)}.get(name)
    if value is None:
        return True
    floor = name in FLOORS or (name in told.report.metrics and higher(name))
    return value >= limit if floor else value <= limit


def _tip(told: Story, trial: Trial) -> str:
    parts = [f"trial {trial.number}: {family(told.report, trial)}", recipe(trial)]
    if told.metric in trial.metrics:
        parts.append(f"{words(told.metric)} {figure(trial.metrics[told.metric])}")
    for cost in ("size_kb", "latency_ms"):
        if cost in _charged(trial):
            parts.append(f"{figure(_charged(trial)[cost])} {UNITS[cost]}")
    return ", ".join(part for part in parts if part)


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
        rest = [line for line in others if len(line[2]) > 1 and line[0] != f"trial {winner.number}"][:40]
        pictures.append(curves.curves([*rest, ("the winner", "second", own)], words(told.metric), breaks))
    return pictures


def _course(trial: Trial, name: str) -> list[tuple[float, float]]:
    """A value over the points of a curve, counted through where compression began its epochs anew."""
    return [(float(i + 1), point.values[name]) for i, point in enumerate(trial.curve) if name in point.values]


def mistakes(told: Story) -> Row:
    """Where the model errs: pictures and sentences."""
    details = told.report.details
    if details.get("confusion"):
        classes, counts = details["confusion"]["classes"], details["confusion"]["matrix"]
        pairs = errors.worst(classes, counts)
        said = [f"{was} was taken for {said}: {_times(count)}, of {total} rows" for was, said, count, total in pairs]
        pictures = [errors.matrix(classes, counts)] if len(classes) <= errors.MOST else []
        return {"pictures": pictures, "words": said or ["No row of the test set was taken for another class."]}
    if details.get("residuals"):
        both = details["residuals"]["predicted"], details["residuals"]["actual"]
        return {"pictures": [errors.scatter(*both), errors.histogram(*both)], "words": []}
    return {}


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def importance(told: Story) -> str:
    """The bars of what mattered in the search."""
    shares = sorted((told.report.details.get("importance") or {}).items(), key=lambda item: -item[1])[:10]
    return bars.bars([(name, share, f"{100 * share:.0f} %") for name, share in shares], "importance") if shares else ""


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
    charged = _charged(trial)
    name = family(told.report, trial)
    winner = trial.number == told.report.details.get("winner")
    shown = {"size": "size_kb", "latency": "latency_ms"}
    return {
        "number": trial.number,
        "family": name,
        "tint": told.families.index(name) % TINTS,
        "recipe": recipe(trial),
        "metric": figure(trial.metrics[told.metric]) if told.metric in trial.metrics else "",
        **{key: figure(charged[cost]) if cost in charged else "" for key, cost in shown.items()},
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
