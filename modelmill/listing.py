"""Lists for people: methods, versions, comparisons, and what the doctor found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from modelmill.method import Entry
from modelmill.report import Report
from modelmill.signature import Field

if TYPE_CHECKING:
    from modelmill.registry.registry import Registry
    from modelmill.store.audit import Deed
    from modelmill.version import Version


def print_methods(entries: Sequence[Entry], *, full: bool) -> None:
    """Print families and their methods; with `full`, every setting and the paper too. Plain text, for speed."""
    for family, group in groupby(sorted(entries, key=lambda e: (e.family, e.name)), key=lambda e: e.family):
        print(family)
        for entry in group:
            print(f"  {entry.name:<22} {entry.doc}")
            if full:
                _print_settings(entry)
    if not full:
        print("\n`modelmill methods FAMILY` shows settings, bounds, defaults and papers.")


def _print_settings(entry: Entry) -> None:
    for setting in entry.settings:
        bounds = f" ({setting.bounds})" if setting.bounds else ""
        default = f" = {setting.default}" if setting.default else ""
        print(f"      {setting.name}: {setting.type}{default}{bounds}")
        if setting.doc:
            print(f"          {setting.doc}")
    if entry.paper:
        print(f"      {entry.paper}")
    print()


def print_models(versions: Sequence[Version], registry: Registry) -> None:
    """Print every version with its age, aliases and first figures."""
    from modelmill.tables import console, table_of

    if not versions:
        print("No models yet. Try: modelmill build digits --budget 20s")
        return
    table = table_of("", ["version", "aliases", "task", "published (UTC)", "quality", "latency", "size"])
    for version in versions:
        table.add_row(
            version.reference,
            ", ".join(version.aliases),
            version.signature.task,
            when(version.created_ms),
            *_first(registry.report(version)),
        )
    console().print(table)


def _first(report: Report) -> tuple[str, str, str]:
    from modelmill.tables import cost

    costs = report.costs
    name = next(iter(report.metrics), "")
    quality = f"{name} {report.metrics[name].value:.4f}" if name else "–"
    return quality, cost("latency_ms", costs.get("latency_ms")), cost("size_bytes", costs.get("size_bytes"))


def when(at_ms: int) -> str:
    """A time as a person reads it, in UTC; the number where no year has it.

    >>> when(0), when(10**18)
    ('1970-01-01 00:00', '1000000000000000000 ms')
    """
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"


def print_version(version: Version, registry: Registry) -> None:
    """Print one version: signature, figures, lineage and history."""
    from modelmill.tables import console, scores_table

    page = console()
    report = registry.report(version)
    page.print(f"[bold]{version.reference}[/]  {', '.join(version.aliases)}  {when(version.created_ms)} UTC")
    page.print(scores_table("", report.metrics, report.costs))
    for field in version.signature.inputs:
        page.print(f"  in   {_told(field)}")
    for field in version.signature.outputs:
        page.print(f"  out  {_told(field)}")
    for name, kept in registry.stored(version).items():
        size = version.sizes[name]
        packed = f", {kept:,} in the store" if kept < size else ""
        page.print(f"  file {name}: {size:,} bytes{packed}, {version.files[name][:19]}…")
    for key in ("model", "data", "spec", "parent", "source"):
        if getattr(version.lineage, key):
            page.print(f"  {key}: {getattr(version.lineage, key)}")
    for event in registry.events(version.name):
        page.print(f"  {when(event.at_ms)} {event.verb} @{event.number} {event.note}")


def print_imported(report: Report, version: Version) -> None:
    """Print what a file turned out to be."""
    size = version.sizes["model.onnx"]
    print(f"{version.reference}{' (live)' if report.live else ''}: {report.task}, {size:,} bytes")
    for side, fields in (("takes", version.signature.inputs), ("gives", version.signature.outputs)):
        for field in fields:
            print(f"  {side}  {_told(field)}")
    for note in report.details["notes"]:
        print(f"  {note}")


def _told(field: Field) -> str:
    return f"{field.name}: {field.datatype} {list(field.shape)}{' nullable' if field.nullable else ''}"


def compare(first: Report, second: Report) -> dict[str, dict[str, float | None]]:
    """The figures of two reports side by side, with the second over the first."""
    flat = [
        {**{name: value.value for name, value in report.metrics.items()}, **report.costs} for report in (first, second)
    ]
    rows: dict[str, dict[str, float | None]] = {}
    for name in [*flat[0], *(name for name in flat[1] if name not in flat[0])]:
        a, b = flat[0].get(name), flat[1].get(name)
        rows[name] = {"first": a, "second": b, "ratio": b / a if a and b is not None else None}
    return rows


def print_comparison(pair: Sequence[Version], rows: Mapping[str, Mapping[str, float | None]]) -> None:
    """Print two versions side by side."""
    from modelmill.tables import UNITS, console, cost, table_of

    table = table_of("", ["", pair[0].reference, pair[1].reference, "ratio"])
    for name, row in rows.items():
        ratio = f"{row['ratio']:.2f}x" if row["ratio"] is not None else ""
        table.add_row(UNITS.get(name, (name,))[0], cost(name, row["first"]), cost(name, row["second"]), ratio)
    console().print(table)


def print_doctor(found: Mapping[str, Any]) -> None:
    """Print what the doctor found, a line a thing."""
    for key, value in found.items():
        if isinstance(value, Mapping):
            print(key)
            for name, item in value.items():
                print(f"  {name:<18} {item}")
        elif isinstance(value, list):
            print(f"{key:<20} {', '.join(map(str, value)) or 'none'}")
        else:
            print(f"{key:<20} {value}")


def print_keys(found: Sequence[Mapping[str, Any]]) -> None:
    """Print every key: whose it is, what it is good for, until when."""
    from modelmill.serve.access.quota import Quota, words
    from modelmill.tables import console, table_of

    if not found:
        print("No keys yet: whoever reaches loopback may use the service. Try: modelmill keys create NAME")
        return
    table = table_of("", ["id", "name", "tenant", "roles", "models", "quota", "made (UTC)", "ends (UTC)", "state"])
    for key in found:
        table.add_row(
            key["id"],
            key["label"],
            key["tenant"],
            ", ".join(key["roles"]),
            ", ".join(key["models"]) or "all",
            words(Quota(**key["quota"])),
            when(key["created_ms"]),
            when(key["expires_ms"]) if key["expires_ms"] else "never",
            key["state"],
        )
    console().print(table)


def print_tenants(found: Sequence[Mapping[str, Any]]) -> None:
    """Print every tenant: its tier with its figures, its own models, its quota."""
    from modelmill.serve.access.quota import Quota, words
    from modelmill.tables import console, table_of

    titles = ["tenant", "tier", "share", "memory", "storage", "rows at once", "in queue", "payload", "models", "quota"]
    table = table_of("", titles)
    for tenant in found:
        limits = tenant["limits"]
        sizes = [f"{limits[name] / 1e6:,.0f} MB" for name in ("memory_bytes", "storage_bytes")]
        table.add_row(
            tenant["name"],
            tenant["tier"],
            f"{limits['share']:g}",
            *sizes,
            f"{limits['batch_rows']:,}",
            str(limits["queue_requests"]),
            f"{limits['payload_bytes'] / 1e6:,.0f} MB",
            ", ".join(tenant["models"]) or "none of its own",
            words(Quota(**tenant["quota"])),
        )
    console().print(table)


def print_deeds(deeds: Sequence[Deed]) -> None:
    """Print rows of the audit log."""
    from modelmill.tables import console, table_of

    if not deeds:
        print("Nothing was changed yet.")
        return
    table = table_of("", ["row", "when (UTC)", "who", "tenant", "from", "what", "of", "details"])
    for deed in deeds:
        details = ", ".join(f"{name} {value}" for name, value in deed.detail.items() if value not in ("", [], 0))
        table.add_row(
            str(deed.id), when(deed.at_ms), deed.who, deed.tenant, deed.origin, deed.verb, deed.subject, details
        )
    console().print(table)
