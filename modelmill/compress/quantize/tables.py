"""Tables that rows are looked up in, embeddings for one: as bytes, with a scale for every row."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelmill.compress.quantize.initializers import constants
from modelmill.compress.quantize.stored import FLOAT
from modelmill.graph.scopes import graphs, nodes, read

HIGH = 127
ROWS = 4096
"""Rows that are rounded at once."""


def looked_up(model: Any, smallest: int) -> list[str]:
    """The float tables (rows, numbers) of at least so many numbers that are read by lookups alone."""
    known, counts = constants(model), read(model)
    found: dict[str, int] = {}
    for node in nodes(model):
        if node.op_type == "Gather" and not any(attribute.i for attribute in node.attribute):
            found[node.input[0]] = found.get(node.input[0], 0) + 1
    return [
        name
        for name, count in found.items()
        if name in known
        and known[name].data_type == FLOAT
        and len(known[name].dims) == 2
        and min(known[name].dims) > 1
        and known[name].dims[0] * known[name].dims[1] >= smallest
        and counts[name] == count
    ]


def tabled(model: Any, names: list[str]) -> None:
    """Store the tables in place; what is looked up is a row of bytes and its scale."""
    from onnx import helper, numpy_helper

    known = constants(model)
    for name in names:
        table = numpy_helper.to_array(known[name])
        codes, scales = np.empty(table.shape, np.int8), np.abs(table).max(1, keepdims=True) / HIGH
        scales[scales == 0] = 1
        for start in range(0, len(table), ROWS):
            codes[start : start + ROWS] = np.round(table[start : start + ROWS] / scales[start : start + ROWS])
        model.graph.initializer.append(numpy_helper.from_array(codes, f"{name}_codes"))
        model.graph.initializer.append(numpy_helper.from_array(scales.astype(np.float32), f"{name}_scales"))
    for graph in graphs(model):
        made = []
        for node in graph.node:
            if node.op_type != "Gather" or node.input[0] not in names:
                made.append(node)
                continue
            (table_name, index), result = node.input, node.output[0]
            made += [
                helper.make_node("Gather", [f"{table_name}_codes", index], [f"{result}_codes"]),
                helper.make_node("Cast", [f"{result}_codes"], [f"{result}_numbers"], to=FLOAT),
                helper.make_node("Gather", [f"{table_name}_scales", index], [f"{result}_scales"]),
                helper.make_node("Mul", [f"{result}_numbers", f"{result}_scales"], [result]),
            ]
        if len(made) > len(graph.node):
            del graph.node[:]
            graph.node.extend(made)
