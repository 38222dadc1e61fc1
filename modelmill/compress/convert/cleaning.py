"""The engine of cleaning: what a graph says in more operations and bytes than it needs is said in fewer."""

from __future__ import annotations

from typing import Any

from modelmill.compress.convert.fold import fold
from modelmill.compress.convert.norms import fuse
from modelmill.compress.convert.same import drop_idle, drop_unused, merge_twins
from modelmill.compress.convert.scales import absorb, flatten
from modelmill.graph.clean import stripped
from modelmill.graph.scopes import hoist, shorten


def clean(model: Any) -> dict[str, int]:
    """Clean a model in place; what was done, and how often. What it computes stays."""
    hoist(model)
    folded = fold(model)
    done = {
        "operations worked out": folded,
        "idle operations dropped": drop_idle(model),
        "batch norms fused": fuse(model),
        "factors taken into layers": absorb(model),
        "reshapes before a Flatten": flatten(model),
        "operations that no output needs": drop_unused(model),
        "constants that came twice": merge_twins(model),
    }
    return {what: count for what, count in done.items() if count}


def written(model: Any) -> bytes:
    """The bytes of a model: twins and what is not needed gone, names short, without words."""
    settle(model)
    return stripped(model)


def settle(model: Any) -> None:
    """Take twins and what is not needed out of a model, in place, and make its names short."""
    drop_unused(model)
    merge_twins(model)
    shorten(model)
