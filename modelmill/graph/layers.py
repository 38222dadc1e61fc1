"""Writes single torch layers as ONNX operations: maps with the batch norm behind them, norms, pools, activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from modelmill.errors import ModelError
from modelmill.fragment import Writer

Array = np.ndarray[Any, Any]


def name_of(module: Any) -> str:
    """The name of a module's class, where it is torch's or our own, and not a subclass with a forward of its own."""
    cls = type(module)
    known = cls.__module__.startswith(("torch.nn.modules.", "modelmill."))
    return cls.__name__ if known else f"{cls.__module__}.{cls.__qualname__}"


def array(parameter: Any) -> Array:
    """A parameter as a float32 array of its own."""
    return np.array(parameter.detach().cpu().numpy(), np.float32)


def affine(norm: Any) -> tuple[Array, Array]:
    """A batch norm in evaluation as (scale, shift), each (channels,) float64."""
    mean, variance = (t.detach().cpu().numpy().astype(np.float64) for t in (norm.running_mean, norm.running_var))
    weight = 1.0 if norm.weight is None else norm.weight.detach().cpu().numpy().astype(np.float64)
    bias = 0.0 if norm.bias is None else norm.bias.detach().cpu().numpy().astype(np.float64)
    scale = weight / np.sqrt(variance + norm.eps)
    return scale, bias - mean * scale


def _folded(module: Any, norm: Any | None) -> tuple[Array, Array | None]:
    """Weight and bias of a convolution or linear layer, with the batch norm that follows taken in."""
    weight = array(module.weight)
    bias = None if module.bias is None else array(module.bias)
    if norm is None:
        return weight, bias
    scale, shift = affine(norm)
    weight = (weight * scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.float32)
    return weight, ((0.0 if bias is None else bias) * scale + shift).astype(np.float32)


def _weighted(module: Any, norm: Any | None, value: str, writer: Writer, path: str) -> str:
    weight, bias = _folded(module, norm)
    return mapped(
        module, [value, *(writer.constant(part) for part in (weight, bias) if part is not None)], writer, path
    )


def mapped(module: Any, inputs: list[str], writer: Writer, path: str) -> str:
    """The operation of a linear or convolutional layer on what it maps, its weight and, where it has one, its bias."""
    if name_of(module) == "Linear":
        return writer.op("Gemm", inputs, {"transB": 1})
    if module.padding_mode != "zeros":
        raise ModelError(path, f"padding mode {module.padding_mode!r}", "Only zero padding is written.")
    attributes = {
        "kernel_shape": list(module.kernel_size),
        "strides": list(module.stride),
        "dilations": list(module.dilation),
        "group": module.groups,
        "pads": _pads(module),
    }
    return writer.op("Conv", inputs, attributes)


def _pads(module: Any) -> list[int]:
    """Padding as ONNX has it: the begin of each axis, then the end of each."""
    if module.padding == "valid":
        return [0, 0] * len(module.kernel_size)
    if module.padding == "same":
        total = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return [n // 2 for n in total] + [n - n // 2 for n in total]
    return [*module.padding, *module.padding]


def _batch_norm(module: Any, value: str, writer: Writer, path: str) -> str:
    if module.running_mean is None:
        raise ModelError(path, "a batch norm without running statistics", "Set track_running_stats=True.")
    ones, zeros = np.ones(module.num_features, np.float32), np.zeros(module.num_features, np.float32)
    weight = ones if module.weight is None else array(module.weight)
    bias = zeros if module.bias is None else array(module.bias)
    constants = [weight, bias, array(module.running_mean), array(module.running_var)]
    return writer.op("BatchNormalization", [value, *map(writer.constant, constants)], {"epsilon": float(module.eps)})


def _layer_norm(module: Any, value: str, writer: Writer, path: str) -> str:
    shape = tuple(module.normalized_shape)
    weight = np.ones(shape, np.float32) if module.weight is None else array(module.weight)
    inputs = [value, writer.constant(weight)]
    if module.bias is not None:
        inputs.append(writer.constant(array(module.bias)))
    return writer.op("LayerNormalization", inputs, {"axis": -len(shape), "epsilon": float(module.eps)})


def _max_pool(module: Any, value: str, writer: Writer, path: str) -> str:
    _refuse_ceil(module, path)
    attributes = _window(module) | {"dilations": _axes(module, module.dilation)}
    return writer.op("MaxPool", [value], attributes)


def _average_pool(module: Any, value: str, writer: Writer, path: str) -> str:
    _refuse_ceil(module, path)
    if getattr(module, "divisor_override", None) is not None:
        raise ModelError(path, "an average pool with divisor_override", "Leave it out.")
    attributes = _window(module) | {"count_include_pad": int(module.count_include_pad)}
    return writer.op("AveragePool", [value], attributes)


def _refuse_ceil(module: Any, path: str) -> None:
    if module.ceil_mode:
        raise ModelError(path, "a pool with ceil_mode", "Pad the input instead.")


def _window(module: Any) -> dict[str, Any]:
    padding = _axes(module, module.padding)
    return {
        "kernel_shape": _axes(module, module.kernel_size),
        "strides": _axes(module, module.kernel_size if module.stride is None else module.stride),
        "pads": [*padding, *padding],
    }


def _axes(module: Any, value: Any) -> list[int]:
    """A setting of a pool for each of its axes: one of a sequence, two of an image."""
    axes = 1 if name_of(module).endswith("1d") else 2
    return [value] * axes if isinstance(value, int) else list(value)


def _adaptive_pool(module: Any, value: str, writer: Writer, path: str) -> str:
    if module.output_size not in (1, (1,), (1, 1)):
        raise ModelError(path, f"an adaptive pool to {module.output_size}", "Only a pool to 1 is written.")
    return writer.op("GlobalAveragePool", [value])


def _flatten(module: Any, value: str, writer: Writer, path: str) -> str:
    if (module.start_dim, module.end_dim) != (1, -1):
        raise ModelError(path, f"flatten from {module.start_dim} to {module.end_dim}", "Only 1 to -1 is written.")
    return writer.op("Flatten", [value], {"axis": 1})


def _leaky(module: Any, value: str, writer: Writer, path: str) -> str:
    return writer.op("LeakyRelu", [value], {"alpha": float(module.negative_slope)})


def _elu(module: Any, value: str, writer: Writer, path: str) -> str:
    return writer.op("Elu", [value], {"alpha": float(module.alpha)})


def _gelu(module: Any, value: str, writer: Writer, path: str) -> str:
    return writer.op("Gelu", [value], {"approximate": module.approximate})


def _silu(module: Any, value: str, writer: Writer, path: str) -> str:
    return writer.op("Mul", [value, writer.op("Sigmoid", [value])])


def _relu6(module: Any, value: str, writer: Writer, path: str) -> str:
    return writer.op("Clip", [value, writer.constant(0.0), writer.constant(6.0)])


def _hardtanh(module: Any, value: str, writer: Writer, path: str) -> str:
    return writer.op("Clip", [value, writer.constant(float(module.min_val)), writer.constant(float(module.max_val))])


def _hardsigmoid(module: Any, value: str, writer: Writer, path: str) -> str:
    return writer.op("HardSigmoid", [value], {"alpha": 1 / 6, "beta": 0.5})


def _softmax(module: Any, value: str, writer: Writer, path: str) -> str:
    return writer.op("Softmax", [value], {"axis": -1 if module.dim is None else module.dim})


def _plain(type: str) -> Callable[[Any, str, Writer, str], str]:
    """The writer of a module that is one ONNX operation without settings."""

    def write(module: Any, value: str, writer: Writer, path: str) -> str:
        return writer.op(type, [value])

    return write


def _recurrent(module: Any, value: str, writer: Writer, path: str) -> str:
    """A recurrent layer, as in network/recurrent.py: ONNX has the steps first, and gates in another order."""
    unit, (operation, order, settings) = module.unit, RECURRENT[module.kind]
    width, ways = unit.hidden_size, ["", "_reverse"][: 1 + unit.bidirectional]
    gates = np.arange(len(order) * width).reshape(-1, width)[list(order)].ravel()

    def stacked(name: str) -> Array:
        return np.stack([array(getattr(unit, f"{name}_l0{way}"))[gates] for way in ways])

    biases = np.concatenate([stacked("bias_ih"), stacked("bias_hh")], axis=1)
    inputs = [writer.op("Transpose", [value], {"perm": [2, 0, 1]})]
    inputs += [writer.constant(part) for part in (stacked("weight_ih"), stacked("weight_hh"), biases)]
    direction = {"direction": "bidirectional"} if len(ways) > 1 else {}
    every, end = writer.ops(operation, inputs, 2, {"hidden_size": width, **settings, **direction})
    if module.last:
        end = writer.op("Transpose", [end], {"perm": [1, 0, 2]})
        return writer.op("Reshape", [end, writer.constant([0, len(ways) * width], np.int64)])
    every = writer.op("Transpose", [every], {"perm": [2, 1, 3, 0]})
    return writer.op("Reshape", [every, writer.constant([0, len(ways) * width, -1], np.int64)])


RECURRENT: dict[str, tuple[str, tuple[int, ...], dict[str, int]]] = {
    "gru": ("GRU", (1, 0, 2), {"linear_before_reset": 1}),
    "lstm": ("LSTM", (0, 3, 1, 2), {}),
    "plain": ("RNN", (0,), {}),
}
"""The operation of a kind of recurrent unit, the places of its gates in torch, and its settings."""


IDLE = frozenset({"Identity", "Dropout", "Dropout1d", "Dropout2d", "AlphaDropout"})
WEIGHTED: dict[str, Callable[[Any, Any, str, Writer, str], str]] = dict.fromkeys(
    ("Linear", "Conv1d", "Conv2d"), _weighted
)
WRITERS: dict[str, Callable[[Any, str, Writer, str], str]] = {
    "BatchNorm1d": _batch_norm,
    "BatchNorm2d": _batch_norm,
    "LayerNorm": _layer_norm,
    "MaxPool1d": _max_pool,
    "MaxPool2d": _max_pool,
    "AvgPool1d": _average_pool,
    "AvgPool2d": _average_pool,
    "AdaptiveAvgPool1d": _adaptive_pool,
    "AdaptiveAvgPool2d": _adaptive_pool,
    "Flatten": _flatten,
    "LeakyReLU": _leaky,
    "ELU": _elu,
    "GELU": _gelu,
    "SiLU": _silu,
    "ReLU6": _relu6,
    "Hardtanh": _hardtanh,
    "Softmax": _softmax,
    "ReLU": _plain("Relu"),
    "Sigmoid": _plain("Sigmoid"),
    "Tanh": _plain("Tanh"),
    "Softplus": _plain("Softplus"),
    "Hardswish": _plain("HardSwish"),
    "Hardsigmoid": _hardsigmoid,
    "Recurrent": _recurrent,
}
"""Layers that are written by themselves."""
