"""Checks that the names in an ONNX file from outside are names, and that each stands for one thing that is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from modelmill.errors import ModelError
from modelmill.graph.scopes import graphs, nodes, within

DAMAGED = "The file is damaged, or its exporter is: export the model anew."


def check_names(model: Any, where: str) -> None:
    """Refuse names that are no text, and tensors or inputs of one graph that share theirs."""
    for name in _names(model):
        # What protobuf cannot read as text it gives as bytes.
        if isinstance(name, bytes):
            raise ModelError(where, f"the name {str(name[:80])[1:]} is no text (UTF-8)", DAMAGED)
    for graph in graphs(model):
        sparse = [tensor.values.name for tensor in graph.sparse_initializer]
        for kind, names in (
            ("tensors", [*(tensor.name for tensor in graph.initializer), *sparse]),
            ("inputs", [value.name for value in graph.input]),
            ("outputs", [value.name for value in graph.output]),
        ):
            name, count = next(iter(Counter(names).most_common(1)), ("", 0))
            if count > 1:
                raise ModelError(where, f"{count} {kind} are named {name[:80]!r}", DAMAGED)


def _names(model: Any) -> Iterator[Any]:
    for node in (*nodes(model), *(node for function in model.functions for node in function.node)):
        yield from (node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for function in model.functions:
        yield from (function.name, function.domain, *function.input, *function.output, *function.attribute)
    for graph in graphs(model):
        yield from (tensor.name for tensor in graph.initializer)
        yield from (sparse.values.name for sparse in graph.sparse_initializer)
        for value in (*graph.input, *graph.output):
            yield from (value.name, *(size.dim_param for size in value.type.tensor_type.shape.dim))
    yield from (opset.domain for opset in model.opset_import)


def check_values(graph: Any, where: str, around: frozenset[str] = frozenset()) -> None:
    """Refuse a value that is read, or given as an output, and that nothing makes.

    around: the values that a graph within a node sees.
    """
    known = around | {"", *(tensor.name for tensor in graph.initializer), *(value.name for value in graph.input)}
    known |= {tensor.values.name for tensor in graph.sparse_initializer}
    known |= {name for node in graph.node for name in node.output}
    for node in graph.node:
        for name in node.input:
            if name not in known:
                message = f"the operator {node.op_type[:80]!r} reads {name[:80]!r}, which nothing makes"
                raise ModelError(where, message, "An input or a weight is missing: export the model anew.")
        for inner in within(node):
            check_values(inner, where, known)
    for value in graph.output:
        if value.name not in known:
            message = f"the output {value.name[:80]!r} is made by nothing"
            raise ModelError(where, message, "Name an output that is there, or export the model anew.")


def check_functions(model: Any, where: str) -> None:
    """Refuse functions of the model itself that call themselves, also by way of others."""
    local = {(function.domain, function.name): function for function in model.functions}
    calls = {
        key: {(node.domain, node.op_type) for node in _inside(function.node)} & local.keys()
        for key, function in local.items()
    }
    try:
        TopologicalSorter(calls).prepare()
    except CycleError as error:
        circle = " -> ".join(name[:40] for _, name in error.args[1][:8])
        raise ModelError(where, f"its functions call themselves: {circle}", DAMAGED) from None


def _inside(found: Any) -> Iterator[Any]:
    """Nodes, and those of graphs within them."""
    for node in found:
        yield node
        for graph in within(node):
            yield from _inside(graph.node)
