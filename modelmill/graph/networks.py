"""Writes torch modules as ONNX operations, one walk from input to output, with batch norms folded away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from modelmill.errors import ModelError
from modelmill.fragment import Writer
from modelmill.graph import steps, tokens
from modelmill.graph.layers import IDLE, WEIGHTED, WRITERS, array, mapped, name_of

Leaf = tuple[str, Any]
"""A module that is written as one step, with its path."""


def emit(module: Any, value: str, writer: Writer, classify: bool) -> tuple[str, str]:
    """Write a module's operations; the raw output's name, and its form: "logits", "probabilities" or "value".

    Raises ModelError for a module that we do not write ourselves, with its path; `graph.foreign` may take it.
    """
    steps = list(leaves(module))
    value = _run(steps, value, writer)
    if not classify:
        return value, "value"
    soft = bool(steps) and name_of(steps[-1][1]) == "Softmax"
    return value, "probabilities" if soft else "logits"


def leaves(module: Any, path: str = "body") -> Iterator[Leaf]:
    """The steps of a module in the order in which they run, without those that do nothing in evaluation."""
    name = name_of(module)
    if name == "Sequential":
        for key, child in module._modules.items():  # a module that comes twice runs twice
            yield from leaves(child, f"{path}.{key}")
    elif name not in IDLE:
        yield path, module


def _run(steps: list[Leaf], value: str, writer: Writer) -> str:
    index = 0
    while index < len(steps):
        path, module = steps[index]
        name = name_of(module)
        following = steps[index + 1][1] if index + 1 < len(steps) else None
        folds = following is not None and _folds(name, following)
        if name in WEIGHTED:
            value = WEIGHTED[name](module, following if folds else None, value, writer, path)
        elif write := WRITERS.get(name) or BLOCKS.get(name):
            value = write(module, value, writer, path)
        else:
            raise ModelError(path, f"no operation is known for the module {name}", _hint())
        index += 2 if folds else 1
    return value


def _hint() -> str:
    known = sorted({*WEIGHTED, *WRITERS, *BLOCKS, *IDLE, "Sequential"})
    return f"Known: {', '.join(known)}. graph.foreign takes others."


def _folds(name: str, following: Any) -> bool:
    wanted = {"Conv1d": "BatchNorm1d", "Conv2d": "BatchNorm2d", "Linear": "BatchNorm1d"}.get(name)
    return name_of(following) == wanted and following.running_mean is not None


def _residual(module: Any, value: str, writer: Writer, path: str) -> str:
    """`after(body(x) + shortcut(x))`, as in network/blocks.py."""
    body = _run(list(leaves(module.body, f"{path}.body")), value, writer)
    shortcut = _run(list(leaves(module.shortcut, f"{path}.shortcut")), value, writer)
    total = writer.op("Add", [body, shortcut])
    return _run(list(leaves(module.after, f"{path}.after")), total, writer)


def _widened(module: Any, value: str, writer: Writer, path: str) -> str:
    """A subsampled image with channels of zeros behind it, as in network/blocks.py."""
    if module.stride > 1:
        value = writer.op("MaxPool", [value], {"kernel_shape": [1, 1], "strides": [module.stride] * 2})
    return writer.op("Pad", [value, writer.constant([0, 0, 0, 0, 0, module.more, 0, 0], np.int64)])


def _shared(module: Any, value: str, writer: Writer, path: str) -> str:
    """A layer, or what it was factored into, at one of the places that use its weights, as in network/blocks.py."""
    for _, layer in leaves(module.layer):
        weights = [weight for weight in (layer.weight, layer.bias) if weight is not None]
        value = mapped(layer, [value, *(writer.once(id(w), array(w)) for w in weights)], writer, path)
    return value


def _excited(module: Any, value: str, writer: Writer, path: str) -> str:
    """Channels times what their gate gives, as in network/blocks.py."""
    return writer.op("Mul", [value, _written(module.gate, value, writer, f"{path}.gate")])


def _written(module: Any, value: str, writer: Writer, path: str) -> str:
    """A module that another one holds."""
    return _run(list(leaves(module, path)), value, writer)


def _holding(
    write: Callable[[Any, str, Writer, str, tokens.Run], str],
) -> Callable[[Any, str, Writer, str], str]:
    """The writer of a module that holds others."""
    return lambda module, value, writer, path: write(module, value, writer, path, _written)


def _graph(module: Any, value: str, writer: Writer, path: str) -> str:
    """Nodes on the sums of what they read, as in network/graphbody.py."""
    values = [value]
    for number, (node, row) in enumerate(zip(module.nodes, module.reads[:-1], strict=True)):
        given = _added([values[i] for i in row], writer)
        values.append(_run(list(leaves(node, f"{path}.nodes.{number}")), given, writer))
    found = [values[i] for i in module.reads[-1]]
    if module.mix is None:
        return _added(found, writer)
    return _run(list(leaves(module.mix, f"{path}.mix")), writer.op("Concat", found, {"axis": 1}), writer)


def _added(values: list[str], writer: Writer) -> str:
    total = values[0]
    for value in values[1:]:
        total = writer.op("Add", [total, value])
    return total


def _mixture(module: Any, value: str, writer: Writer, path: str) -> str:
    """The mean of what the members say, as in network/mixture.py."""
    steps = [list(leaves(member, f"{path}.members.{number}")) for number, member in enumerate(module.members)]
    said = [_run(found, value, writer) for found in steps]
    if not module.classify:
        return writer.op("Mean", said)
    return writer.op("Log", [writer.op("Mean", [writer.op("Softmax", [raw], {"axis": -1}) for raw in said])])


BLOCKS: dict[str, Callable[[Any, str, Writer, str], str]] = {
    "Residual": _residual,
    "Widened": _widened,
    "Shared": _shared,
    "Excited": _excited,
    "Tokens": _holding(tokens.tokens),
    "Attention": _holding(tokens.attention),
    "Pooled": _holding(tokens.pooled),
    "Graph": _graph,
    "Mixture": _mixture,
    "Rounded": steps.rounded,
    "Capped": steps.rounded,
    "Stepped": steps.stepped,
}
"""Modules of our own."""
