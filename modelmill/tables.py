"""The tables of a run and of the registry, as values that rich prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelmill.finding import Finding
from modelmill.lines import summary
from modelmill.report import Limit, Report, Value

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

WIDTH = 120
"""Columns of a line where nobody says how wide the page is."""

UNITS: dict[str, tuple[str, float, str]] = {
    "latency_ms": ("latency, one row (p50)", 1, "{:.3f} ms"),
    "latency_p99_ms": ("latency, one row (p99)", 1, "{:.3f} ms"),
    "throughput_rps": ("throughput, 32 at a time", 1, "{:,.0f} rows/s"),
    "size_bytes": ("size", 1e-3, "{:,.1f} kB"),
    "size_kb": ("size", 1, "{:,.1f} kB"),
    "stored_kb": ("size in the store", 1, "{:,.1f} kB"),
    "stored_bytes": ("size in the store", 1e-3, "{:,.1f} kB"),
    "memory_mb": ("memory", 1, "{:.1f} MB"),
    "energy_mj": ("energy a row", 1, "{:.3f} mJ"),
    "macs": ("multiply-adds", 1, "{:,.0f}"),
    "cpu_seconds": ("processor, 1,000 rows", 1, "{:.3f} s"),
}


def cost(name: str, value: float | None) -> str:
    """A cost with its unit.

    >>> cost("size_bytes", 12345)
    '12.3 kB'
    """
    if value is None:
        return "–"
    _, factor, form = UNITS.get(name, (name, 1, "{:.4g}"))
    return form.format(value * factor)


def tables(report: Report) -> Iterator[RenderableType]:
    """What a person reads when a build has ended."""
    from rich.text import Text

    yield Text()
    yield _tried(report)
    if report.details.get("steps"):
        yield _milled(report)
    yield _won(report)
    if report.limits:
        yield _limits(report.limits)
    yield from _words(report)


def console() -> Console:
    """Standard output for tables, wide enough for them where it is no terminal."""
    from rich.console import Console

    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=WIDTH, soft_wrap=False)


def table_of(title: str, columns: Sequence[str]) -> Table:
    """An empty table in the house's look: the first column to the left, figures to the right."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    return table


SHOWN = 8
"""So many candidates are shown beside the front, where that is shorter."""

FRONT = 16
"""So many of the front are shown; the report has all."""


def _tried(report: Report) -> Table:
    """The winner, then the front, then others while there is room; each part by quality."""
    trials = [trial for trial in report.details.get("trials", []) if trial["metrics"]]
    names = list(report.metrics)[:1]
    table = table_of(_count_words(report), ["trial", *names, "latency", "size", "settings"])
    table.columns[-1].justify = "left"
    winner = report.details.get("winner")
    front = {point["trial"] for point in report.pareto}
    better = _sign(report, names[0]) if names else 1
    order = sorted(
        trials,
        key=lambda one: (
            one["number"] != winner,
            one["number"] not in front,
            -better * one["metrics"].get(names[0], 0) if names else 0,
        ),
    )
    for trial in order[: min(max(SHOWN, len(front | {winner})), FRONT)]:
        mark = " ★" if trial["number"] == winner else " ◦" if trial["number"] in front else ""
        table.add_row(
            f"#{trial['number']}{mark}",
            *(f"{trial['metrics'].get(name, float('nan')):.4f}" for name in names),
            cost("latency_ms", trial["costs"].get("latency_ms")),
            cost("size_bytes", trial["costs"].get("size_bytes")),
            summary(trial["settings"], 7),
            style="bold green" if trial["number"] == winner else None,
        )
    table.caption = _legend(len(front), "as it is" if report.details.get("stays") else "won")
    table.caption_justify = "left"
    return table


def _legend(front: int, winner: str) -> str:
    """What the marks of trials say.

    >>> _legend(3, "won")
    '★ won  ◦ on the front of 3: no other is better in all that counts'
    """
    rest = f", of which {FRONT} are shown" if front > FRONT else ""
    return f"★ {winner}  ◦ on the front of {front}{rest}: no other is better in all that counts"


def _sign(report: Report, name: str) -> int:
    from modelmill.metrics.score import better

    return 1 if better(name) == "higher" else -1


def _count_words(report: Report) -> str:
    count = report.trials
    words = [f"{count.done} candidates measured"]
    words += [f"{count.stopped} stopped early or refused"] if count.stopped else []
    words += [f"{count.failed} failed"] if count.failed else []
    return f"Tried on validation rows: {', '.join(words)}, in {report.seconds:.0f} s"


def _won(report: Report) -> Table:
    itself = str(report.details.get("base") or "uncompressed")
    stays = report.details.get("stays")
    made = "as it is" if stays else "milled"
    title = f"{itself if stays else f'{report.name}@{report.version}'} on test rows that no search saw"
    table = table_of(title, ["", made, itself, "ratio"])
    for name, value in report.metrics.items():
        spread = f" ({value.interval[0]:.3f} to {value.interval[1]:.3f})" if value.interval else ""
        plain = report.baseline.metrics.get(name)
        table.add_row(name, f"{value.value:.4f}{spread}", f"{plain.value:.4f}" if plain else "–", "")
    for name, figure in report.costs.items():
        before = report.baseline.costs.get(name)
        note = " (modelled)" if name == "energy_mj" and report.details.get("energy_modelled", True) else ""
        table.add_row(
            UNITS.get(name, (name,))[0] + note, cost(name, figure), cost(name, before), _ratio(name, figure, before)
        )
    return table


def _ratio(name: str, figure: float | None, before: float | None) -> str:
    """How many times better a cost is than it was.

    >>> _ratio("latency_ms", 0.5, 1.0), _ratio("throughput_rps", 2000, 1000), _ratio("size_bytes", None, 3)
    ('2.00x', '2.00x', '')
    """
    from modelmill.spec import FLOORS

    if not figure or not before:
        return ""
    return f"{figure / before if name in FLOORS else before / figure:.2f}x"


def _milled(report: Report) -> Table:
    """What became of every step of compression."""
    from modelmill.evaluate.steps import steps

    table = table_of("How it was compressed", ["step", "kB", "time of a row", "quality", "", "why"])
    table.columns[-2].justify = table.columns[-1].justify = "left"
    for row in steps(report.details):
        verdict = f"[green]{row['verdict']}[/]" if row["verdict"] == "kept" else f"[yellow]{row['verdict']}[/]"
        why = " ".join([row["why"], "(from an earlier run)" if row["reused"] else ""]).strip()
        table.add_row(row["step"], row["size"], row["time"], row["quality"], verdict, why)
    return table


def _limits(limits: Mapping[str, Limit]) -> Table:
    table = table_of("Limits", ["", "limit", "reached", ""])
    for name, limit in limits.items():
        kept = "[green]kept[/]" if limit.kept else "[red]broken[/]"
        table.add_row(name, f"{limit.limit:g}", f"{limit.value:.4g}", kept)
    return table


def _words(report: Report) -> Iterator[str]:
    from rich.markup import escape

    for line in report.details.get("words", []):
        yield f"  {escape(line)}"
    losers = report.details.get("runners_up", [])
    if losers:
        yield "\n[bold]Why the runners-up lost[/]"
    front = {point["trial"] for point in report.pareto}
    for loser in sorted(losers, key=lambda one: one["trial"] not in front)[:4]:
        yield f"  #{loser['trial']}: {escape(loser['why'])}"
    yield from _placed(report)
    if report.details.get("stays"):
        yield f"\nNothing is published: {report.details['live_why']}."
    elif report.details.get("known"):
        state = "live" if report.live else "not live"
        yield f"\nNothing is published: [bold]{report.name}@{report.version}[/], which is {state}, is this very model."
    else:
        yield f"\n[bold]{report.name}@{report.version}[/] is published; {report.details.get('live_why', '')}."


def _placed(report: Report) -> Iterator[str]:
    """How a child stands beside its parent, and on which machines figures hold."""
    from modelmill.evaluate.steps import beside, places

    said = [*beside(report.details), places(report.details, next(iter(report.metrics), "quality"))]
    yield "\n".join(["", *(f"  {line}" for line in said if line)])


def card_tables(card: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A data card for people: what it is, what is to be predicted, and a line a column."""
    from rich.markup import escape

    target = card.get("target", {})
    yield (
        f"[bold]{escape(card['origin'])}[/]  {card['rows']:,} rows, {card['features']:,} features, "
        f"{card['digest'][:19]}…\n"
        f"target [bold]{escape(target.get('name', 'none'))}[/]  {escape(_classes(target))}\n"
    )
    table = table_of("", ["column", "kind", "type", "missing", "least", "mean", "greatest", "values"])
    table.columns[-1].justify = "left"
    for column in card["columns"]:
        table.add_row(
            escape(column["name"]),
            column["kind"],
            f"{column['datatype']} {column['shape'][1:] or ''}",
            f"{column['missing']:.1%}" if column["missing"] else "",
            *(_short(column.get(key)) for key in ("min", "mean", "max")),
            escape(", ".join(f"{text} ({count:,})" for text, count in column.get("top", [])[:3])),
        )
    yield table


def _classes(target: Mapping[str, Any]) -> str:
    if "classes" in target:
        return ", ".join(f"{name}: {count:,}" for name, count in list(target["classes"].items())[:12])
    return f"{_short(target.get('min'))} to {_short(target.get('max'))}" if "min" in target else ""


def _short(value: Any) -> str:
    return "" if value is None else value[:10] if isinstance(value, str) else f"{value:.4g}"


def scores_table(name: str, metrics: Mapping[str, Value], costs: Mapping[str, float | None]) -> Table:
    """The figures of one evaluation."""
    from modelmill.spec import KILOBYTES

    table = table_of(name, ["", "value", "95 % interval"])
    for key, value in metrics.items():
        interval = f"{value.interval[0]:.4f} to {value.interval[1]:.4f}" if value.interval else ""
        table.add_row(key, f"{value.value:.4f}", interval)
    for key, figure in costs.items():
        if key in UNITS and KILOBYTES.get(key) not in costs:
            table.add_row(UNITS[key][0], cost(key, figure), "")
    return table


def drift_table(name: str, findings: Sequence[Finding]) -> Table:
    """What drifted: a row for every column or output in every window, and windows that were too small to judge."""
    from rich.text import Text

    table = table_of(f"{name}: what changed since it was published", ["", "window", "index", "p", "what changed"])
    table.columns[-1].justify = "left"
    for finding in findings:
        figures = finding.figures
        drifted = finding.check == "drift"
        table.add_row(
            Text(finding.where),
            str(figures["window"]),
            f"{figures['effect']:.2f}" if drifted else "",
            f"{figures['p']:.2g}" if drifted else "",
            Text(finding.message),
            style="yellow" if finding.severity == "warning" else None,
        )
    return table
