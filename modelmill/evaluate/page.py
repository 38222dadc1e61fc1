"""Writes a report as one HTML file that needs nothing else: no network, no fonts, and no script to be read."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from modelmill.evaluate import learned, mattered, sections, spent, steps, tried
from modelmill.evaluate.story import Story, story
from modelmill.evaluate.words import duration, figure, words
from modelmill.finding import Finding
from modelmill.report import Report

HOME = Path(__file__).parent


def page(report: Report) -> str:
    """The report as the text of one HTML file.

    Its pictures are inline SVG. Its own content security policy allows the style and the small script in it by their
    digests, and nothing else, so that a column's or a class's name can never run as code.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HOME), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style, pictures, script = ((HOME / name).read_text("utf-8") for name in ("page.css", "pictures.css", "pictures.js"))
    style += pictures
    return environment.get_template("page.html").render(
        style=style, script=script, policy=policy(style, script), **view(report)
    )


def policy(style: str, script: str) -> str:
    """The content security policy of a page with this style and this script inside."""
    return f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}"


def _source(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def view(report: Report) -> dict[str, Any]:
    """Everything that the template shows, by name."""
    told = story(report)
    details = report.details
    return {
        "report": report,
        "metric": words(told.metric),
        "sentences": sections.sentences(report, told),
        "words": list(details.get("words") or ()),
        "limits": sections.limits(report, told),
        "metrics": sections.metrics(report),
        "costs": sections.costs(report),
        "mistakes": sections.mistakes(report),
        "card": card(details.get("card") or {}),
        "findings": msgspec.convert(details.get("findings") or (), tuple[Finding, ...]),
        "notes": list(details.get("notes") or ()),
        "duration": duration(report.seconds),
        "lineage": _lineage(report),
        "spec": _toml(report.spec),
        "plain": details.get("base") or "uncompressed",
        "steps": steps.steps(details),
        "beside": steps.beside(details),
        "places": steps.places(details, told.metric),
        **searched(told, details),
    }


def searched(told: Story, details: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows of the search, by name."""
    shares = _shares(told, details)
    why = {row["trial"]: row["why"] for row in details.get("runners_up") or ()}
    return {
        "legend": tried.legend(told),
        "tried": tried.tried(told),
        "came_on": spent.came_on(told),
        "spent": spent.spent(told),
        "samplers": spent.samplers(told),
        "chains": spent.chains(details.get("chains") or {}),
        "learning": learned.learning(told),
        "endings": learned.endings(told),
        "saved": learned.saved(told),
        "importance": mattered.importance(shares),
        "interplay": mattered.interplay(details.get("interplay") or (), told.metric),
        "coordinates": mattered.coordinates(told, shares.get(told.metric, {})),
        "trials": tried.table(told, why),
        "tried_count": len(told.trials),
        "most_marks": tried.MOST_MARKS,
    }


def _shares(told: Story, details: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """What each setting mattered for everything asked about; older reports know it of the metric alone."""
    first = {told.metric: dict(details.get("importance") or {})}
    return dict(details.get("importances") or {}) or first


def card(table: Mapping[str, Any]) -> dict[str, Any]:
    """A data card sorted by form: plain facts, counts that are drawn as bars, and tables."""
    facts, counts, tables = {}, {}, {}
    for key, value in _flat(table).items():
        name = key.replace("_", " ")
        if _is_counts(value):
            counts[name] = _bars(value)
        elif _is_table(value):
            head = list(dict.fromkeys(k for row in value for k in row))
            tables[name] = {"head": head, "rows": [[_said(row.get(key)) for key in head] for row in value]}
        elif value not in (None, "", [], {}):
            facts[name] = _said(value)
    return {"facts": facts, "counts": counts, "tables": tables}


def _flat(table: Mapping[str, Any]) -> dict[str, Any]:
    """The card without what the page shows elsewhere, and the target's own card laid out in it."""
    found = {key: value for key, value in table.items() if key not in ("rows", "features", "digest", "findings")}
    target = found.pop("target", None)
    if isinstance(target, dict):
        name = target.get("name") or "target"
        found["target"] = name
        found |= {f"{name}: {key}": value for key, value in target.items() if key != "name"}
    elif target:
        found["target"] = target
    return found


def _is_counts(value: Any) -> bool:
    return (
        isinstance(value, dict) and 1 < len(value) <= 30 and all(type(item) in (int, float) for item in value.values())
    )


def _is_table(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(row, dict) for row in value)


def _bars(value: Mapping[str, float]) -> str:
    from modelmill.evaluate.charts.bars import counts

    return counts([(str(key), float(count), figure(count)) for key, count in value.items()], "counts")


def _said(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return figure(value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_said(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        if value and all(isinstance(item, list | tuple) and len(item) == 2 for item in value):
            return ", ".join(f"{_said(item)} ({_said(count)})" for item, count in value)
        return ", ".join(_said(item) for item in value)
    return str(value)


def _lineage(report: Report) -> list[tuple[str, str]]:
    lineage = report.lineage
    digests = [("model", lineage.model), ("data", lineage.data), ("spec", lineage.spec), ("parent", lineage.parent)]
    return [(name, digest) for name, digest in digests if digest]


def _toml(spec: Mapping[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(_without_none(dict(spec)))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value if item is not None]
    return value
