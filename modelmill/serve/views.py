"""Versions as JSON values, for /api/models and for the pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

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
        "example": list(signature.example),
        "report": "report.html" in version.files,
        "history": [_history(other) for other in versions],
    }


def _history(version: Version) -> dict[str, Any]:
    return {
        "number": version.number,
        "created_ms": version.created_ms,
        "aliases": list(version.aliases),
        "size_bytes": version.sizes.get("model.onnx"),
        "notes": version.notes,
    }
