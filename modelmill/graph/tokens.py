"""Writes the modules of network/attention.py: tokens lie one below the other, (batch * tokens, width)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from modelmill.fragment import Writer
from modelmill.graph.layers import array

Run = Callable[[Any, str, Writer, str], str]
"""Writes a module that another one holds."""


def tokens(module: Any, value: str, writer: Writer, path: str, run: Run) -> str:
    """Patches or numbers as tokens, with what tells their places."""
    width = module.place.shape[1]
    if module.cut is None:
        value = writer.op("Unsqueeze", [value, writer.constant([2], np.int64)])
        value = writer.op("Mul", [value, writer.constant(array(module.scale))])
    else:
        value = run(module.cut, value, writer, f"{path}.cut")
        value = writer.op("Reshape", [value, writer.constant([0, width, -1], np.int64)])
        value = writer.op("Transpose", [value], {"perm": [0, 2, 1]})
    if module.first:
        value = writer.op("Pad", [value, writer.constant([0, 1, 0, 0, 0, 0], np.int64)])
    value = writer.op("Add", [value, writer.constant(array(module.place))])
    return writer.op("Reshape", [value, writer.constant([-1, width], np.int64)])


def attention(module: Any, value: str, writer: Writer, path: str, run: Run) -> str:
    """Heads side by side as an axis of their own."""
    heads, size = module.heads, module.size
    value = run(module.ask, value, writer, f"{path}.ask")
    value = writer.op("Reshape", [value, writer.constant([-1, module.tokens, 3 * heads, size], np.int64)])
    value = writer.op("Transpose", [value], {"perm": [0, 2, 1, 3]})
    queries, keys, values = writer.ops("Split", [value], 3, {"axis": 1, "num_outputs": 3})
    queries = writer.op("Mul", [queries, writer.constant(np.float32(1 / math.sqrt(size)))])
    keys = writer.op("Transpose", [keys], {"perm": [0, 1, 3, 2]})
    shares = writer.op("Softmax", [writer.op("MatMul", [queries, keys])], {"axis": -1})
    told = writer.op("Transpose", [writer.op("MatMul", [shares, values])], {"perm": [0, 2, 1, 3]})
    told = writer.op("Reshape", [told, writer.constant([-1, heads * size], np.int64)])
    return run(module.tell, told, writer, f"{path}.tell")


def pooled(module: Any, value: str, writer: Writer, path: str, run: Run) -> str:
    """The first token of every row, or the mean of its tokens."""
    value = writer.op("Reshape", [value, writer.constant([-1, module.tokens, module.width], np.int64)])
    if module.first:
        return writer.op("Gather", [value, writer.constant(0, np.int64)], {"axis": 1})
    return writer.op("ReduceMean", [value, writer.constant([1], np.int64)], {"keepdims": 0})
