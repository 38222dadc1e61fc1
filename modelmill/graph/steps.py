"""Writes the modules of network/steps.py: pairs of QuantizeLinear and DequantizeLinear with the steps they learned.

Activations are unsigned bytes, weights signed ones: the pair that processors of all makes have fast operations for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from modelmill.fragment import Writer
from modelmill.graph.layers import array, mapped


def rounded(module: Any, value: str, writer: Writer, path: str) -> str:
    """Numbers on a grid; fewer than 8 bits are cut as bytes, so that sums before them stay in integers."""
    zero = 128 if module.signed else 0
    scale, zero_point = writer.constant(np.float32(module.step)), writer.constant(np.uint8(zero))
    codes = writer.op("QuantizeLinear", [value, scale, zero_point])
    low, high = max(zero + module.low, 0), zero + module.high
    if (low, high) != (0, 255):
        codes = writer.op("Clip", [codes, writer.constant(np.uint8(low)), writer.constant(np.uint8(high))])
    return writer.op("DequantizeLinear", [codes, scale, zero_point])


def stepped(module: Any, value: str, writer: Writer, path: str) -> str:
    """A layer with its weights as bytes; the zero point is written out, as onnxruntime's QGemm asks for it."""
    layer = module.layer
    steps = array(module.steps)
    inputs = [writer.constant(array(module.codes()).astype(np.int8)), writer.constant(steps)]
    inputs.append(writer.constant(np.zeros(len(steps), np.int8)))
    weight = writer.op("DequantizeLinear", inputs, {"axis": 0})
    given = [value, weight] + ([] if layer.bias is None else [writer.constant(array(layer.bias))])
    return mapped(layer, given, writer, path)
