"""Versions as JSON values, for /api/models and for the pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from modelmill.runtime.rows import as_values
from modelmill.signature import Field, Signature
from modelmill.version import Version


def summary(version: Version, numbers: Sequence[int]) -> dict[str, Any]:
    """A model in a few words: what it predicts, from what, and which versions there are."""
    signature = version.signature
    return {
        "name": version.name,
        "version": version.number,
        "versions": list(numbers),
        "aliases": list(version.aliases),
        "task": signature.task,
        "target": signature.target,
        "kind": "image" if any(field.kind == "image" for field in signature.inputs) else "table",
        "input_count": len(signature.inputs),
        "class_count": len(signature.classes),
        "size_bytes": version.sizes.get("model.onnx"),
    }


def detail(version: Version, versions: Sequence[Version]) -> dict[str, Any]:
    """A model in full: its signature and example, and every version of it."""
    signature = version.signature
    return {
        **summary(version, [other.number for other in versions]),
        "inputs": msgspec.to_builtins(signature.inputs),
        "outputs": msgspec.to_builtins(signature.outputs),
        "classes": list(signature.classes),
        "example": example(signature),
        "report": "report.html" in version.files,
        "history": [_history(other) for other in versions],
    }


def example(signature: Signature) -> list[Any]:
    """The row of a signature's example, a value an input, with numbers as answers have them.

    >>> example(Signature("compute", (Field("x", "FP32"), Field("city", "BYTES")), (), example=(0.10000000149, "Ulm")))
    [0.1, 'Ulm']
    """
    return [_written(field, value) for field, value in zip(signature.inputs, signature.example, strict=False)]


def _written(field: Field, value: Any) -> Any:
    return as_values(np.array([value], field.dtype))[0] if field.datatype in ("FP16", "FP32") else value


def _history(version: Version) -> dict[str, Any]:
    return {
        "number": version.number,
        "created_ms": version.created_ms,
        "aliases": list(version.aliases),
        "size_bytes": version.sizes.get("model.onnx"),
        "notes": version.notes,
    }
