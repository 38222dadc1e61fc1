"""Small stand-ins for large weights: onnxruntime's quantizer copies what it is given several times.

It takes scales from the largest and the smallest number of each channel: a stand-in holds these two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modelmill.compress.quantize.initializers import constants
from modelmill.compress.quantize.weights import Weight, weights
from modelmill.contracts import Array
from modelmill.graph.apart import rest

QUANTIZED = "_quantized"
"""What the quantizer adds to a weight's name."""


def light(model: Any, chosen: Sequence[str]) -> Any:
    """A copy of the model in which the weights of those nodes are stand-ins; other weights are what they are."""
    from onnx import numpy_helper

    given = {weight.name: _ends(weight) for weight in weights(model, chosen).values()}
    small = rest(model)
    small.graph.value_info.extend(model.graph.value_info)
    for tensor in model.graph.initializer:
        small.graph.initializer.append(
            numpy_helper.from_array(given[tensor.name], tensor.name) if tensor.name in given else tensor
        )
    _part(small)
    return small


def _part(model: Any) -> None:
    """Give every node a bias of its own, in place.

    onnxruntime's quantizer parts those that are shared itself, and then calls them by names that values may have.
    """
    seen: set[str] = set()
    known = constants(model)
    for number, node in enumerate(model.graph.node):
        if len(node.input) < 3 or node.op_type not in ("Conv", "Gemm") or node.input[2] not in known:
            continue
        if node.input[2] in seen:
            own = type(known[node.input[2]])()
            own.CopyFrom(known[node.input[2]])
            own.name = node.input[2] = f"{own.name}_of_{number}"
            model.graph.initializer.append(own)
        seen.add(node.input[2])


def _ends(weight: Weight) -> Array:
    """The least and the largest number of every channel, in a tensor of as many axes."""
    rows = weight.rows
    ends = np.stack([rows.min(1), rows.max(1)], 1)
    shape = [2 if axis == (1 if weight.axis == 0 else 0) else 1 for axis in range(weight.value.ndim)]
    shape[weight.axis] = len(rows)
    return np.ascontiguousarray((ends if weight.axis == 0 else ends.T).reshape(shape))


def fill(quantized: Any, model: Any, chosen: Sequence[str]) -> None:
    """Put the codes of the whole weights, in place, where a quantized model has those of stand-ins."""
    from onnx import numpy_helper

    wanted = set(chosen)
    given = {node.input[1]: node.name for node in model.graph.node if node.name in wanted}
    scales = {node.input[0]: node.input[1] for node in quantized.graph.node if node.op_type == "DequantizeLinear"}
    known, whole = constants(quantized), weights(model, chosen)
    for name, node in given.items():
        if name in known:
            known[name].CopyFrom(constants(model)[name])
        codes = f"{name}{QUANTIZED}"
        if codes in known:
            scale = numpy_helper.to_array(known[scales[codes]])
            known[codes].CopyFrom(numpy_helper.from_array(_codes(whole[node], scale), codes))


def _codes(weight: Weight, scale: Array) -> Array:
    """Numbers as whole multiples of a scale, one for all or one for each channel."""
    shape = [1] * weight.value.ndim
    shape[weight.axis] = -1
    multiples = np.divide(weight.value, scale.reshape(shape) if scale.ndim else scale, dtype=np.float32)
    np.rint(multiples, out=multiples)
    return np.clip(multiples, -128, 127, out=multiples).astype(np.int8)
