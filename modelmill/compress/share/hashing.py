"""Which number of a table each weight is, and with which sign: told by a hash, so that nothing has to be stored.

Weight i has r = (A i + B) mod P and q = (r^2 + C) mod P; its number is q mod count, its sign by whether D q mod P is
odd. A graph works this out by itself when it is loaded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from modelmill.compress.quantize.stored import FLOAT, expanded
from modelmill.compress.share.looked import Looked
from modelmill.contracts import Array

P = 2**31 - 1
A, B, C, D = 1_103_515_245, 12_345, 747_796_405, 1_664_525


def places(size: int, count: int) -> tuple[Array, Array]:
    """For each of `size` weights its place in a table of `count` numbers, int64, and its sign, 1 or -1, float32.

    >>> places(6, 3)[0].tolist()
    [1, 2, 2, 2, 1, 0]
    """
    r = (np.arange(size, dtype=np.int64) * A + B) % P
    q = (r * r + C) % P
    return q % count, (1 - 2 * (q * D % P % 2)).astype(np.float32)


def table(weight: Array, count: int) -> Array:
    """The numbers that come nearest to a weight: (count,) float32; what no weight falls on is 0."""
    codes, signs = places(weight.size, count)
    sums = np.bincount(codes, (weight.ravel() * signs).astype(np.float64), count)
    return (sums / np.maximum(np.bincount(codes, minlength=count), 1)).astype(np.float32)


def shared(layer: nn.Module, count: int) -> Looked:
    """The layer with weights from a table of that many numbers."""
    weight = layer.weight.detach().numpy()
    codes, signs = places(weight.size, count)
    return Looked(layer, table(weight, count), codes, signs=signs.reshape(weight.shape))


def coded(model: Any, name: str, weight: Array, count: int) -> int:
    """Put a table, and operations that work out the hash, in the place of a weight; the length of the table."""
    from onnx import helper, numpy_helper

    held: dict[str, Any] = {}
    nodes: list[Any] = []

    def number(value: Array | int) -> str:
        array = np.asarray(value, np.int64)
        key = f"{name}_c{array.tolist()}"
        held.setdefault(key, numpy_helper.from_array(array, key))
        return key

    def op(kind: str, *inputs: str, **attributes: int) -> str:
        made = f"{name}_{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [made], **attributes))
        return made

    def mod(value: str, by: int) -> str:
        return op("Mod", value, number(by))

    place = op("Range", number(0), number(weight.size), number(1))
    r = mod(op("Add", op("Mul", place, number(A)), number(B)), P)
    q = mod(op("Add", op("Mul", r, r), number(C)), P)
    code, odd = mod(q, count), mod(mod(op("Mul", q, number(D)), P), 2)
    sign = op("Cast", op("Sub", number(1), op("Add", odd, odd)), to=FLOAT)
    book = numpy_helper.from_array(table(weight, count), f"{name}_book")
    flat = op("Mul", op("Gather", book.name, code), sign)
    shape = number(np.array(weight.shape))
    nodes.append(helper.make_node("Reshape", [flat, shape], [name]))
    expanded(model, name, [book, *held.values()], nodes)
    return count
