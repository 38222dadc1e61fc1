"""What comes last in sharing weights: the graph with tables and codes in the place of its large weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from modelmill.compress.quantize.graphs import load
from modelmill.compress.quantize.stored import large
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
    ready: Callable[[Any, dict[str, Array]], Any] = lambda proto, weights: proto,
    fits: Callable[[Array], bool] = lambda weight: True,
) -> Progress:
    """The last Progress of a step, with the graph in which large weights that fit are looked up in tables.

    name: of the step. ready: what is done to the graph, and its large weights by name, before.
    """
    assert last.result is not None
    proto = load(graph)
    weights = {key: weight for key, weight in large(proto, smallest).items() if fits(weight)}
    if not weights:
        note = f"nothing to share: no weight that fits has {smallest} numbers or more"
        return replace(last, note=note, result=last.result.with_body(graph, "graph", note))
    proto = ready(proto, weights)
    lengths = [coder(proto, key, weight) for key, weight in weights.items()]
    made = tidy(proto)
    what = f"{len(lengths)} weights share tables of at most {max(lengths)}"
    note = f"{what}; {len(graph)} to {len(made)} bytes; {HONESTY}"
    values = {**last.values, "size_bytes": float(len(made)), "size_bytes_before": float(len(graph))}
    result = last.result.with_body(made, "graph", f"{name}: {note}")
    return replace(last, values=values, note="; ".join(filter(None, (last.note, note))), result=result)
