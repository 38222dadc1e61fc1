"""Small stand-ins for large weights: onnxruntime's quantizer copies what it is given several times.

It takes scales from the largest and the smallest number of each channel: a stand-in holds these two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelmill.compress.quantize.graphs import HEAVY
from modelmill.compress.quantize.initializers import constants
from modelmill.compress.quantize.stored import FLOAT
from modelmill.compress.quantize.weights import Weight, weights
from modelmill.contracts import Array
from modelmill.graph.apart import is_large, rest
from modelmill.graph.scopes import read

QUANTIZED = "_quantized"
"""What the quantizer adds to a weight's name."""


def light(model: Any, chosen: Sequence[str]) -> Any:
    """A copy of the model with stand-ins for the weights of those nodes, and for large ones that stay floats."""
    from onnx import numpy_helper

    given = {weight.name: _ends(weight) for weight in weights(model, chosen).values()}
    given |= {name: np.zeros(1, np.float32) for name in _untouched(model, chosen)}
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


def _untouched(model: Any, chosen: Sequence[str]) -> list[str]:
    """Large float weights that the second input of other nodes alone are: nobody asks for more than their type."""
    known, counts = constants(model), read(model)
    taken = {node.input[1] for node in model.graph.node if node.name in set(chosen) and len(node.input) > 1}
    found = Counter(node.input[1] for node in model.graph.node if node.op_type in HEAVY)
    return [
        name
        for name, count in found.items()
        if name in known and is_large(known[name]) and known[name].data_type == FLOAT
        if count == counts[name] and name not in taken
    ]


def fill(quantized: Any, model: Any, chosen: Sequence[str], ready: Mapping[str, Array]) -> None:
    """Put the codes of the whole weights, in place, where a quantized model has those of stand-ins.

    ready: codes by the name of the weight, where they were worked out before.
    """
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
            value = ready[name] if name in ready else _codes(whole[node], scale)
            known[codes].CopyFrom(numpy_helper.from_array(value, codes))
    for name in _untouched(model, chosen):
        known[name].CopyFrom(constants(model)[name])


def _codes(weight: Weight, scale: Array) -> Array:
    """Numbers as whole multiples of a scale, one for all or one for each channel."""
    shape = [1] * weight.value.ndim
    shape[weight.axis] = -1
    multiples = np.divide(weight.value, scale.reshape(shape) if scale.ndim else scale, dtype=np.float32)
    np.rint(multiples, out=multiples)
    return np.clip(multiples, -128, 127, out=multiples).astype(np.int8)
