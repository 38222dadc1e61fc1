"""The data card: what a person should know about the data a model was made from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from modelmill.data.cells import Array
from modelmill.data.table import missing
from modelmill.dataset import Dataset
from modelmill.finding import Finding
from modelmill.signature import NO_DATE, Field

PERSONAL = re.compile(
    r"(?<![a-z])(e-?mail|phone|mobile|(first|last|sur|full|user)[ _-]?name|address|street|birth|dob|ssn|passport|iban|"
    r"ip[ _-]?addr\w*)",
    re.IGNORECASE,
)
"""Names of columns that may hold personal data."""

MOST_CLASSES = 50
MOST_COLUMNS = 300


def card(data: Dataset, findings: Sequence[Finding] = ()) -> dict[str, Any]:
    """Origin, digest, sizes, columns and target of the data as JSON values, with what was noticed.

    >>> data = Dataset((Field("age", "INT64"),), {"age": np.array([1, 3])}, np.array([0, 1]), "y", origin="toy")
    >>> card(data)["columns"][0]["mean"]
    2.0
    """
    return {
        "origin": data.origin,
        "digest": data.digest,
        "rows": data.rows,
        "test_rows": data.test.rows if data.test is not None else None,
        "features": sum(max(1, int(np.prod(field.shape[1:]))) for field in data.fields),
        "columns": [column(field, data.columns[field.name]) for field in data.fields[:MOST_COLUMNS]],
        "target": _target(data),
        "personal": [field.name for field in data.fields if PERSONAL.search(field.name)],
        "findings": [msgspec.to_builtins(finding) for finding in findings],
    }


def column(field: Field, values: Array) -> dict[str, Any]:
    """One column in figures."""
    gaps = missing(values, field)
    found: dict[str, Any] = {
        "name": field.name,
        "kind": field.kind,
        "datatype": field.datatype,
        "shape": list(field.shape),
        "nullable": field.nullable,
        "missing": round(float(gaps.mean()), 6) if len(gaps) else 0.0,
    }
    there = values[~gaps] if values.ndim == 1 else values
    if field.kind == "category":
        return found | _category(there)
    if field.kind == "date":
        return found | _dates(there)
    return found | numbers(there)


def numbers(values: Array) -> dict[str, float]:
    """Least, mean, greatest and spread of what is there; nothing where nothing is."""
    there = values[np.isfinite(values)].astype(np.float64) if values.dtype.kind == "f" else values
    if there.size == 0:
        return {}
    # Pixels are many and their values few: counting them is much faster than a pass in 64 bits.
    weights = _count_bytes(there) if there.dtype == np.uint8 else None
    values = there if weights is None else np.arange(256)
    mean = float(np.average(values, weights=weights))
    spread = float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))
    return {"min": float(there.min()), "mean": mean, "max": float(there.max()), "std": spread}


def _count_bytes(values: Array) -> Array:
    """(256,) how often each byte occurs, a cache's worth at a time."""
    flat, step = values.reshape(-1), 1 << 16
    counts = [np.bincount(flat[i : i + step], minlength=256) for i in range(0, len(flat), step)]
    return np.asarray(np.sum(counts, axis=0))


def _category(values: Array) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for text in values.tolist():
        counts[text] = counts.get(text, 0) + 1
    top = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:5]
    return {"distinct": len(counts), "top": [[text, count] for text, count in top]}


def _dates(values: Array) -> dict[str, str]:
    there = values[values != NO_DATE]
    if there.size == 0:
        return {}
    return {"min": _iso(there.min()), "max": _iso(there.max())}


def _iso(value: Any) -> str:
    return str(np.datetime64(int(value), "ms").astype("datetime64[s]"))


def _target(data: Dataset) -> dict[str, Any]:
    target = data.target
    if target is None:
        return {}
    if target.dtype.names:
        return {"name": data.target_name, "answers": list(target.dtype.names)}
    if target.dtype.kind == "f":
        return {"name": data.target_name, **numbers(target)}
    labels, counts = np.unique(target.astype(str) if target.dtype == object else target, return_counts=True)
    if len(labels) > MOST_CLASSES:
        shown = {} if target.dtype == object else numbers(target)
        return {"name": data.target_name, "distinct": len(labels), **shown}
    classes = {str(label): int(count) for label, count in zip(labels, counts, strict=True)}
    return {"name": data.target_name, "classes": classes}
