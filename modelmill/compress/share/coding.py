"""What comes last in sharing weights: the graph with tables and codes in the place of its large weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from modelmill.compress.quantize.graphs import load, passed_over
from modelmill.compress.quantize.stored import large, upgrade
from modelmill.compress.quantize.tidy import tidy
from modelmill.contracts import Array
from modelmill.trial import Progress

HONESTY = "onnxruntime looks the weights up once, when it loads the model: size only, no faster"

Coder = Callable[[Any, str, Array], int]
"""Puts a table in the place of a weight of a graph, and says how long it is."""


def coded(
    last: Progress,
    graph: bytes,
    name: str,
    smallest: int,
    coder: Coder,
    bits: int = 8,
    fits: Callable[[Array], bool] = lambda weight: True,
) -> Progress:
    """The last Progress of a step, with the graph in which large weights that fit are looked up in tables.

    name: of the step. bits: of a code, at most; up to 4 the graph is brought to operators that know such numbers.
    """
    assert last.result is not None
    proto = load(graph)
    if not any(map(fits, large(proto, smallest).values())):
        note = f"nothing to share: no float32 weight that fits has {smallest} numbers or more"
        note += passed_over(proto, smallest)
        return replace(last, note=note, result=last.result.with_body(graph, "graph", note))
    if bits <= 4:
        proto = upgrade(proto)  # weights may have other names then
    weights = {key: weight for key, weight in large(proto, smallest).items() if fits(weight)}
    lengths = [coder(proto, key, weight) for key, weight in weights.items()]
    made = tidy(proto)
    what = f"{len(lengths)} weights share tables of at most {max(lengths)}"
    note = f"{what}; {len(graph)} to {len(made)} bytes; {HONESTY}"
    values = {**last.values, "size_bytes": float(len(made)), "size_bytes_before": float(len(graph))}
    result = last.result.with_body(made, "graph", f"{name}: {note}")
    return replace(last, values=values, note="; ".join(filter(None, (last.note, note))), result=result)
