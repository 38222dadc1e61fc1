"""Takes out of a graph what computes nothing: identities, dropout, twins, and what no output needs."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import Any

from modelmill.compress.joining import needed
from modelmill.graph.scopes import graphs, read, rename


def drop_idle(model: Any) -> int:
    """Drop, in place, the nodes that give what they are given; how many."""
    used = read(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    return sum(_drop_idle(graph, model, used, constants) for graph in graphs(model))


def _drop_idle(graph: Any, model: Any, used: dict[str, int], constants: dict[str, Any]) -> int:
    makers = {name: node for node in graph.node for name in node.output}
    outputs = {value.name for value in graph.output}
    names: dict[str, str] = {}
    gone = []
    for place, node in enumerate(graph.node):
        if not _is_idle(node, used, constants):
            continue
        source, result = names.get(node.input[0], node.input[0]), node.output[0]
        if result not in outputs:
            names[result] = source
        elif source in makers and source not in outputs:
            names[source] = result
            maker = makers[result] = makers[source]
            maker.output[list(maker.output).index(source)] = result
        else:
            continue
        gone.append(place)
    for place in reversed(gone):
        del graph.node[place]
    rename(model, names)
    return len(gone)


def _is_idle(node: Any, used: dict[str, int], constants: dict[str, Any]) -> bool:
    from onnx import numpy_helper

    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type == "Dropout" and not any(used.get(name) for name in node.output[1:]):
        training = node.input[2] if len(node.input) > 2 else ""
        return not training or (training in constants and not numpy_helper.to_array(constants[training]).any())
    return node.op_type == "Identity" or (node.op_type == "Concat" and len(node.input) == 1)


def merge_twins(model: Any) -> int:
    """Keep, in place, one initializer of those that hold the same; how many went."""
    alike: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for place, tensor in enumerate(model.graph.initializer):
        alike[tensor.data_type, tuple(tensor.dims)].append(place)
    kept = {value.name for value in model.graph.output}
    names: dict[str, str] = {}
    gone = []
    for places in alike.values():
        first: dict[bytes, str] = {}
        for place in places if len(places) > 1 else ():
            tensor = model.graph.initializer[place]
            same = first.setdefault(_content(tensor), tensor.name)
            if same != tensor.name and tensor.name not in kept:
                names[tensor.name] = same
                gone.append(place)
    for place in sorted(gone, reverse=True):
        del model.graph.initializer[place]
    rename(model, names)
    return len(gone)


def _content(tensor: Any) -> bytes:
    """What tells a tensor from others of its type and shape."""
    if tensor.HasField("raw_data"):
        return hashlib.sha256(tensor.raw_data).digest()
    name, tensor.name = tensor.name, ""
    content = hashlib.sha256(tensor.SerializeToString(deterministic=True)).digest()
    tensor.name = name
    return content


def drop_unused(model: Any) -> int:
    """Drop, in place, the nodes and the initializers that no output needs; how many nodes."""
    gone = 0
    for graph in graphs(model):
        kept = needed(graph.node, [value.name for value in graph.output])
        gone += len(graph.node) - len(kept)
        if len(kept) < len(graph.node):
            del graph.node[:]
            graph.node.extend(kept)
    used = read(model)
    for place in reversed(range(len(model.graph.initializer))):
        if model.graph.initializer[place].name not in used:
            del model.graph.initializer[place]
    return gone
