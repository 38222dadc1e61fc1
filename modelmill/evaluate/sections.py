"""What the sections on quality, costs, limits and mistakes show: words, rows and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

from modelmill.evaluate.charts import bars, errors
from modelmill.evaluate.story import Story, family, recipe
from modelmill.evaluate.words import UNITS, duration, figure, higher, words
from modelmill.report import Report, Value
from modelmill.spec import KILOBYTES

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


def sentences(report: Report, told: Story) -> list[str]:
    """What came out, in two or three sentences."""
    said = [called(report, told)]
    if told.metric:
        value = report.metrics[told.metric]
        seen = {"test": "On rows that no search has seen", "validation": "On the validation rows"}
        where = seen.get(value.split, "On the rows that it learned from")
        said.append(f"{where}, its {words(told.metric)} is {quality(value)}.")
    latency, size = report.costs.get("latency_ms"), report.costs.get("size_bytes")
    if latency is not None and size is not None:
        stored = report.costs.get("stored_bytes") or size
        kept = f", of which the store keeps {figure(stored / 1000)} kB" if stored < size else ""
        said.append(
            f"A row takes {figure(latency)} ms on one thread; the file served has {figure(size / 1000)} kB{kept}."
        )
    return said


def called(report: Report, told: Story) -> str:
    """What the model is, and how it was found."""
    winner, base = told.winner, report.details.get("base")
    if report.details.get("stays"):
        return f"{base} stays as it is: nothing was better within the allowed loss."
    name = report.name
    body = BODIES.get(family(told, winner), f"a {family(told, winner)}") if winner else "a model"
    if base:
        name, body = f"{report.name}@{report.version}", f"{base} compressed"
    how = f" ({recipe(winner)})" if winner and recipe(winner) else ""
    count = sum(trial.state != "refused" for trial in told.trials)
    found = f", the best of {count} candidates in {duration(report.seconds)}" if count else ""
    return f"{name} is {body}{how}{found}."


def quality(value: Value) -> str:
    """A metric with its interval in words."""
    if value.interval is None:
        return figure(value.value)
    low, high = value.interval
    return f"{figure(value.value)} ({figure(low)} to {figure(high)})"


def limits(report: Report, told: Story) -> list[Row]:
    """Every limit with a gauge."""
    rows = []
    for name, limit in report.limits.items():
        floor = told.more(name)
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


def metrics(report: Report) -> list[Row]:
    """Every metric with its interval, beside the uncompressed model's."""
    plain = report.baseline.metrics
    rows = []
    for name, value in report.metrics.items():
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


def costs(report: Report) -> list[Row]:
    """Every cost beside the uncompressed model's."""
    rows = []
    energy = "energy (modelled)" if report.details.get("energy_modelled") else "energy"
    for name, value, plain in _costs(report):
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
        row for row in found if row[0] not in ("size_bytes", *KILOBYTES) and not row[0].startswith("latency_ratio")
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


def mistakes(report: Report) -> Row:
    """Where the model errs: pictures and sentences."""
    details = report.details
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
