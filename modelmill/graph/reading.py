"""Reads an ONNX file from outside as a torch network, so that it can be trained further."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from modelmill.errors import ModelError
from modelmill.graph.faces import OWN

Array = np.ndarray[Any, Any]

HINT = (
    "What is read is a chain of linear and convolutional layers, norms, pools and activations from one input to one "
    "output. Start from the torch module itself: modelmill.build(source, model=module)."
)


class Step:
    """One operation: its settings, and those of its inputs that are constants."""

    def __init__(self, where: str, node: Any, constants: dict[str, Array], axes: int) -> None:
        import onnx

        self.node, self.where = node, where
        self.axes = axes
        """Of what it works on, beside rows and channels."""
        self.set: dict[str, Any] = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        self.given = [constants.get(name) for name in node.input]

    def refused(self, why: str) -> ModelError:
        """What to raise where the operation is none that is read."""
        name = f" {self.node.name!r}" if self.node.name else ""
        return ModelError(self.where, f"cannot be read as a network: {self.node.op_type}{name} {why}", HINT)

    def constant(self, place: int) -> Array | None:
        """An input that is there, as a constant. Raises ModelError for one that is worked out."""
        if place >= len(self.node.input) or not self.node.input[place]:
            return None
        if self.given[place] is None:
            raise self.refused("works out what is a constant in a network")
        return self.given[place]

    def weight(self, place: int) -> Array:
        """A constant that must be there, in floats."""
        found = self.constant(place)
        if found is None or found.dtype != np.float32:
            raise self.refused("has no weights in 32-bit floats")
        return found

    def expects(self, **wanted: Any) -> None:
        """Refuse settings other than these, where they are given."""
        for name, value in wanted.items():
            if self.set.get(name, value) != value:
                raise self.refused(f"with {name} = {self.set[name]}")


def read(graph: bytes, where: str) -> tuple[nn.Sequential, tuple[int, ...]]:
    """A network with the file's weights, and the shape of a row of its features; a softmax at its end is left out.

    where: what the file is called in errors. Raises ModelError for a file that is no chain of known operations.
    """
    import onnx

    proto = onnx.load_from_string(graph)
    constants = {one.name: np.array(onnx.numpy_helper.to_array(one)) for one in proto.graph.initializer}
    inputs = [one for one in proto.graph.input if one.name not in constants]
    if len(inputs) != 1:
        raise ModelError(where, f"cannot be read as a network: it has {len(inputs)} inputs", HINT)
    sizes = [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim]
    if len(sizes) < 2 or not all(sizes[1:]):
        raise ModelError(where, f"cannot be read as a network: its input has the open shape {sizes}", HINT)
    value, layers, axes = inputs[0].name, list[nn.Module](), len(sizes) - 2
    shapes: set[str] = set()
    """What is worked out of constants and the shape of a value, as exporters do for a reshape that keeps the rows."""
    for node in proto.graph.node:
        step = Step(where, node, constants, axes)
        if node.op_type == "Constant":
            if "value" not in step.set:
                raise step.refused("is no tensor")
            constants[node.output[0]] = np.array(onnx.numpy_helper.to_array(step.set["value"]))
            continue
        if node.op_type not in READERS and node.output[0].startswith(OWN):
            break  # from here on its scores are made into labels, as the import had it
        worked_out = [name for name in node.input if name and name not in constants]
        if set(worked_out) <= shapes or (node.op_type == "Shape" and worked_out == [value]):
            shapes.update(node.output)
            continue
        if [name for name in worked_out if name not in shapes] != [value] or len(node.output) != 1:
            raise step.refused("is no step of a chain")
        layers = _with(layers, step, value)
        axes = 0 if layers and isinstance(layers[-1], nn.Flatten | nn.Linear) else axes
        value = node.output[0]
    else:
        if [one.name for one in proto.graph.output] != [value]:
            raise ModelError(where, "cannot be read as a network: its output is not the end of the chain", HINT)
    while layers and isinstance(layers[-1], nn.Softmax):
        layers.pop()
    network = nn.Sequential(*layers).eval()
    try:
        with torch.no_grad():
            network(torch.zeros(2, *sizes[1:]))
    except RuntimeError as error:
        said = f"its layers do not fit each other ({error})"
        raise ModelError(where, f"cannot be read as a network: {said}", HINT) from error
    return network, tuple(sizes[1:])


def _with(layers: list[nn.Module], step: Step, value: str) -> list[nn.Module]:
    """The layers with that of a step; a product followed by a sum is one linear layer."""
    kind = step.node.op_type
    if kind == "Add":
        other = step.weight(1 if step.node.input[0] == value else 0)
        last = layers[-1] if layers else None
        if isinstance(last, nn.Linear) and last.bias is None and other.size == last.out_features:
            last.bias = nn.Parameter(torch.tensor(other.reshape(-1)))
            return layers
        raise step.refused("adds something else than the bias of a linear layer")
    if kind not in READERS:
        raise step.refused("is none of the operations that are read")
    found = READERS[kind](step)
    return layers if found is None else [*layers, found]


def _linear(step: Step) -> nn.Module:
    if step.axes:
        raise step.refused("works on more than rows of features")
    if step.node.op_type == "Gemm":
        step.expects(alpha=1.0, beta=1.0, transA=0)
        weight = step.weight(1) if step.set.get("transB") else step.weight(1).T
    else:
        weight = step.weight(1).T
    if weight.ndim != 2:
        raise step.refused(f"multiplies by an array of {weight.ndim} axes")
    bias = step.constant(2)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    return _filled(layer, weight=weight, bias=None if bias is None else np.broadcast_to(bias, (1, len(weight)))[0])


def _convolution(step: Step) -> nn.Module:
    weight, bias = step.weight(1), step.constant(2)
    axes = weight.ndim - 2
    if axes not in (1, 2):
        raise step.refused(f"over {axes} axes")
    groups = step.set.get("group", 1)
    make = nn.Conv1d if axes == 1 else nn.Conv2d
    layer = make(
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(weight.shape[2:]),
        stride=tuple(step.set.get("strides", [1] * axes)),
        padding=tuple(_padding(step, axes)),
        dilation=tuple(step.set.get("dilations", [1] * axes)),
        groups=groups,
        bias=bias is not None,
    )
    return _filled(layer, weight=weight, bias=bias)


def _padding(step: Step, axes: int) -> list[int]:
    step.expects(auto_pad=b"NOTSET")
    pads = list(step.set.get("pads", [0] * 2 * axes))
    if pads[:axes] != pads[axes:]:
        raise step.refused(f"pads its sides unevenly: {pads}")
    return pads[:axes]


def _norm(step: Step) -> nn.Module:
    step.expects(training_mode=0)
    weight, bias, mean, variance = (step.weight(place) for place in range(1, 5))
    make = nn.BatchNorm2d if step.axes == 2 else nn.BatchNorm1d
    layer = make(len(weight), eps=step.set.get("epsilon", 1e-5))
    return _filled(layer, weight=weight, bias=bias, running_mean=mean, running_var=variance)


def _average(step: Step) -> nn.Module:
    return nn.AdaptiveAvgPool1d(1) if step.axes == 1 else nn.AdaptiveAvgPool2d(1)


def _pool(step: Step) -> nn.Module:
    step.expects(ceil_mode=0, storage_order=0)
    size = step.set["kernel_shape"]
    axes, padding = len(size), _padding(step, len(size))
    if axes not in (1, 2):
        raise step.refused(f"over {axes} axes")
    places: dict[str, Any] = {
        "kernel_size": tuple(size),
        "stride": tuple(step.set.get("strides", [1] * axes)),
        "padding": tuple(padding),
    }
    if step.node.op_type == "MaxPool":
        places["dilation"] = tuple(step.set.get("dilations", [1] * axes))
        return (nn.MaxPool1d if axes == 1 else nn.MaxPool2d)(**places)
    places["count_include_pad"] = bool(step.set.get("count_include_pad", 0))
    return (nn.AvgPool1d if axes == 1 else nn.AvgPool2d)(**places)


def _flat(step: Step) -> nn.Module:
    if step.node.op_type == "Flatten":
        step.expects(axis=1)
        return nn.Flatten()
    shape = step.given[1]
    if shape is None:  # worked out from that of the value: whether it is rows and features, the next layer tells
        return nn.Flatten()
    if len(shape) != 2 or (shape[0] not in (0, -1) and shape[1] != -1):
        raise step.refused("to another shape than rows and features")
    return nn.Flatten()


def _clip(step: Step) -> nn.Module:
    low, high = (step.constant(place) for place in (1, 2))
    if low is None or high is None:
        raise step.refused("at one side alone")
    return nn.ReLU6() if (float(low), float(high)) == (0.0, 6.0) else nn.Hardtanh(float(low), float(high))


def _gelu(step: Step) -> nn.Module:
    return nn.GELU(approximate=step.set.get("approximate", b"none").decode())


def _hard_sigmoid(step: Step) -> nn.Module:
    if abs(step.set.get("alpha", 0.2) - 1 / 6) > 1e-6 or step.set.get("beta", 0.5) != 0.5:
        raise step.refused("with another slope than 1/6")
    return nn.Hardsigmoid()


def _nothing(step: Step) -> None:
    """What does nothing where answers are given."""


def _filled(layer: nn.Module, **arrays: Array | None) -> nn.Module:
    """The layer with its weights: the file was checked when it was imported, so that they fit."""
    state = {name: torch.tensor(np.ascontiguousarray(array)) for name, array in arrays.items() if array is not None}
    layer.load_state_dict(state, strict=False)
    return layer


READERS: dict[str, Callable[[Step], nn.Module | None]] = {
    "Gemm": _linear,
    "MatMul": _linear,
    "Conv": _convolution,
    "BatchNormalization": _norm,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _average,
    "Flatten": _flat,
    "Reshape": _flat,
    "Clip": _clip,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "Relu": lambda step: nn.ReLU(),
    "LeakyRelu": lambda step: nn.LeakyReLU(step.set.get("alpha", 0.01)),
    "Elu": lambda step: nn.ELU(step.set.get("alpha", 1.0)),
    "Sigmoid": lambda step: nn.Sigmoid(),
    "Tanh": lambda step: nn.Tanh(),
    "Softplus": lambda step: nn.Softplus(),
    "HardSwish": lambda step: nn.Hardswish(),
    "Softmax": lambda step: nn.Softmax(step.set.get("axis", -1)),
    "Identity": _nothing,
    "Dropout": _nothing,
}
"""Operations that are read, as layers."""
