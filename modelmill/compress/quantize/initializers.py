"""The constants that a graph holds, by name."""

from __future__ import annotations

from typing import Any


def constants(model: Any) -> dict[str, Any]:
    """The initializers of a graph by name."""
    return {tensor.name: tensor for tensor in model.graph.initializer}
