"""The graphs of an ONNX model: its own, and those within its nodes (If, Loop, Scan), which see what is around them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heappop, heappush
from itertools import count, product
from string import ascii_lowercase
from typing import Any


def graphs(model: Any) -> list[Any]:
    """All graphs of a model, those within before the one around: a list of nodes that is filled anew holds copies."""
    found = [model.graph]
    for graph in found:
        found += [inner for node in graph.node for inner in within(node)]
    return found[::-1]


def within(node: Any) -> list[Any]:
    """The graphs that a node runs."""
    single = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return single + [graph for attribute in node.attribute for graph in attribute.graphs]


def nodes(model: Any) -> list[Any]:
    """The nodes of all graphs."""
    return [node for graph in graphs(model) for node in graph.node]


def reads(node: Any) -> set[str]:
    """What a node reads, graphs within it included."""
    names = set(node.input)
    for graph in within(node):
        names |= {name for inner in graph.node for name in reads(inner)}
        names |= {value.name for value in graph.output}
    return names


def order(graph: Any) -> None:
    """Put the nodes of a graph behind those that make what they read, in place, and else leave them in their order."""
    makers = {name: place for place, node in enumerate(graph.node) for name in node.output}
    waits = [{makers[name] for name in reads(node) if name in makers} for node in graph.node]
    readers: dict[int, list[int]] = {}
    for place, before in enumerate(waits):
        for maker in before:
            readers.setdefault(maker, []).append(place)
    ready = [place for place, before in enumerate(waits) if not before]
    sorted_places = []
    while ready:
        place = heappop(ready)
        sorted_places.append(place)
        for reader in readers.get(place, ()):
            waits[reader].discard(place)
            if not waits[reader]:
                heappush(ready, reader)
    nodes = [graph.node[place] for place in sorted_places]
    del graph.node[:]
    graph.node.extend(nodes)


def read(model: Any) -> dict[str, int]:
    """How often every value is read, by nodes and as an output, in all graphs."""
    found: dict[str, int] = {}
    for graph in graphs(model):
        for name in [name for node in graph.node for name in node.input] + [value.name for value in graph.output]:
            found[name] = found.get(name, 0) + 1
    return found


def hoist(model: Any) -> None:
    """Make initializers of the outermost graph of all constants, in place: what is one thing is then seen in one way.

    Inner values of all graphs get names of their own first, as branches may use the same ones.
    """
    defaults = {tensor.name for tensor in model.graph.initializer}
    given = [value for value in model.graph.input if value.name not in defaults]
    if len(given) < len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(given)
    if len(graphs(model)) > 1:
        shorten(model)
    for graph in graphs(model):
        if graph is not model.graph:
            model.graph.initializer.extend(graph.initializer)
            del graph.initializer[:]
        for place in reversed(range(len(graph.node))):
            tensor = constant(graph.node[place])
            if tensor is not None:
                model.graph.initializer.append(tensor)
                del graph.node[place]


def constant(node: Any) -> Any:
    """The tensor that a Constant gives, under the name of the value; None for other nodes, and for sparse ones."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    attribute = node.attribute[0]
    if attribute.name == "value":
        tensor = TensorProto()
        tensor.CopyFrom(attribute.t)
        tensor.name = node.output[0]
        return tensor
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if attribute.name not in kinds:
        return None
    value = np.asarray(helper.get_attribute_value(attribute), kinds[attribute.name])
    return numpy_helper.from_array(value, node.output[0])


def rename(model: Any, names: Mapping[str, str]) -> None:
    """Let whoever reads a value read another, in place, in all graphs; what follows one another is followed."""

    def last(name: str) -> str:
        while name in names:
            name = names[name]
        return name

    for graph in graphs(model):
        for node in graph.node:
            for place, name in enumerate(node.input):
                if name in names:
                    node.input[place] = last(name)
        if graph is not model.graph:
            for value in graph.output:
                value.name = last(value.name)


def shorten(model: Any) -> None:
    """Give every inner value a short name that no other has, and nodes none; what is told of inner shapes goes."""
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    fresh = (name for name in _letters() if name not in kept)
    _shorten(model.graph, {"": ""} | {name: name for name in kept}, fresh)


def _shorten(graph: Any, around: Mapping[str, str], fresh: Iterator[str]) -> None:
    known = dict(around)

    def short(name: str) -> str:
        if name not in known:
            known[name] = next(fresh)
        return known[name]

    del graph.value_info[:]
    for value in (*graph.input, *graph.initializer):
        value.name = short(value.name)
    for node in graph.node:
        node.name = ""
        node.input[:] = [short(name) for name in node.input]
        for inner in within(node):
            _shorten(inner, known, fresh)
        node.output[:] = [short(name) for name in node.output]
    for value in graph.output:
        value.name = short(value.name)


def _letters() -> Iterator[str]:
    for length in count(1):
        for letters in product(ascii_lowercase, repeat=length):
            yield "".join(letters)
