"""Gives a graph from outside the face of one of ours: its rows' axis named, its scores as the outputs of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelmill.contracts import Array
from modelmill.errors import ModelError
from modelmill.graph.build import tensor
from modelmill.graph.decode import given
from modelmill.graph.scopes import reads, rename
from modelmill.signature import ROWS

Label = str | int

OWN = "modelmill_"
"""What names of ours begin with, so that they meet none of the file's."""


def name_rows(model: Any, axes: Mapping[str, int | None], ranks: Mapping[str, int], rows: int) -> None:
    """Name the rows' axis of every input and output, in place, or give it its size where that is fixed."""
    for value in (*given(model), *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        while len(dims) < ranks[value.name]:
            dims.add()
        for place, dim in enumerate(dims):
            if place == axes[value.name] and rows < 0:
                dim.dim_param = ROWS
            elif place == axes[value.name]:
                dim.dim_value = rows
            elif dim.dim_param == ROWS:
                dim.dim_param = f"{value.name}_{place}"


def without_maps(model: Any) -> dict[str, tuple[Label, ...]]:
    """Put a tensor in the place of every output that is a list of maps (ZipMap), in place; the classes, by output."""
    import onnx

    found: dict[str, tuple[Label, ...]] = {}
    makers = {name: node for node in model.graph.node for name in node.output}
    for value in model.graph.output:
        node = makers.get(value.name)
        if node is None or node.op_type != "ZipMap":
            continue
        found[value.name] = _labels(node)
        value.CopyFrom(
            onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, [None, len(found[value.name])])
        )
        node.CopyFrom(onnx.helper.make_node("Identity", [node.input[0]], [value.name]))
    return found


def classes_in(model: Any) -> tuple[Label, ...]:
    """The classes that an operator of classic machine learning in the graph knows; none where there is no such one."""
    return next((labels for node in model.graph.node if (labels := _labels(node))), ())


def _labels(node: Any) -> tuple[Label, ...]:
    for attribute in node.attribute:
        if attribute.name in ("classlabels_int64s", "classlabels_ints"):
            return tuple(attribute.ints)
        if attribute.name == "classlabels_strings" and attribute.strings:
            return tuple(label.decode() for label in attribute.strings)
    return ()


def scores_of(outputs: Mapping[str, Array], name: str, where: str) -> str:
    """The output that holds scores or values: the one that is named, or the first of numbers with fractions.

    outputs: what the graph gave for one row.
    """
    if name and name not in outputs:
        raise ModelError(where, f"no output is named {name[:80]!r}", f"There are {', '.join(outputs)}.")
    found = name or next((key for key, values in outputs.items() if values.dtype.kind == "f"), "")
    if not found or outputs[found].dtype.kind != "f":
        raise ModelError(where, "no output holds numbers with fractions", "Import it without --task.")
    return found


def check_scores(name: str, gave: Array, where: str) -> None:
    """Refuse an output that does not hold rows of scores."""
    if gave.ndim != 2:
        message = f"the output {name!r} has the shape {list(gave.shape)}, expected rows of scores"
        raise ModelError(where, message, "Name another with --output, or import the file without --task.")


def classify(
    model: Any, name: str, width: int, sure: bool, classes: Sequence[Label], where: str
) -> tuple[tuple[Label, ...], str]:
    """Make `label` and `probabilities` of the scores in an output, in place; the classes, and what was done for it.

    width: scores of a row. sure: whether they are probabilities. Scores that are none go through a softmax; a single
    one stands for the second of two classes, and goes through a logistic function where it is no probability.
    """
    count = max(width, 2)
    labels = tuple(classes) or classes_in(model) or tuple(range(count))
    if len(labels) != count:
        message = f"the output {name!r} has {count} classes, and {len(labels)} are named"
        raise ModelError(where, message, "Name every class, in the order of the scores: --classes a,b,c.")
    writer = _Nodes(model)
    raw = writer.op("Cast", [writer.free(name)], to=1)
    if width == 1:
        second = raw if sure else writer.op("Sigmoid", [raw])
        first = writer.op("Sub", [writer.constant(np.ones(1, np.float32)), second])
        probabilities = writer.op("Concat", [first, second], axis=1)
    else:
        probabilities = raw if sure else writer.op("Softmax", [raw], axis=1)
    place = writer.op("ArgMax", [probabilities], axis=1, keepdims=0)
    text = isinstance(labels[0], str)
    names = writer.constant(np.array(labels, object if text else np.int64))
    label = place if labels == tuple(range(count)) else writer.op("Gather", [names, place], axis=0)
    writer.outputs({"label": (label, 8 if text else 7, [None]), "probabilities": (probabilities, 1, [None, count])})
    return labels, "taken as probabilities" if sure else "softmax" if width > 1 else "logistic function"


def regress(model: Any, name: str, gave: Array, where: str) -> None:
    """Make `value` of an output with one number a row, in place."""
    if gave.size != 1:
        message = f"the output {name!r} has the shape {list(gave.shape)}, expected one number a row"
        raise ModelError(where, message, "Name another with --output, or import the file without --task.")
    writer = _Nodes(model)
    raw = writer.op("Cast", [writer.free(name)], to=1)
    value = writer.op("Reshape", [raw, writer.constant(np.array([-1], np.int64))])
    writer.outputs({"value": (value, 1, [None])})


class _Nodes:
    """Writes operations behind a graph's last; state: the graph, and how many names were given."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.graph = model.graph
        self.count = 0

    def _fresh(self) -> str:
        self.count += 1
        return f"{OWN}{self.count}"

    def constant(self, value: Array) -> str:
        name = self._fresh()
        self.graph.initializer.append(tensor(name, value))
        return name

    def op(self, kind: str, inputs: Sequence[str], **attributes: int) -> str:
        from onnx import helper

        name = self._fresh()
        self.graph.node.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def free(self, name: str) -> str:
        """The value of a name under one of ours, so that its own may be given anew."""
        fresh = self._fresh()
        rename(self.model, {name: fresh})
        for node in self.graph.node:
            node.output[:] = [fresh if value == name else value for value in node.output]
        return fresh

    def outputs(self, values: Mapping[str, tuple[str, int, Sequence[Any]]]) -> None:
        """The outputs of the graph from now on: name to value, element type and shape. What none needs is left out."""
        from onnx import helper

        taken = {value.name for value in self.graph.input} & values.keys()
        if taken:
            message = f"the input {min(taken)!r} has the name of an output of the task"
            raise ModelError("graph", message, "Rename it, or import the file without --task.")
        for name in values:
            self.free(name)
        del self.graph.output[:]
        for name, (value, kind, shape) in values.items():
            self.graph.node.append(helper.make_node("Identity", [value], [name]))
            self.graph.output.append(helper.make_tensor_value_info(name, kind, shape))
        prune(self.graph)


def prune(graph: Any) -> None:
    """Leave out, in place, the nodes and initializers that no output needs."""
    wanted = {value.name for value in graph.output}
    for place in reversed(range(len(graph.node))):
        node = graph.node[place]
        if wanted.isdisjoint(node.output):
            del graph.node[place]
        else:
            wanted |= reads(node)
    for place in reversed(range(len(graph.initializer))):
        if graph.initializer[place].name not in wanted:
            del graph.initializer[place]
