"""Rounds weights column by column, each column making up for what rounding those before it did to the outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from modelmill.compress.quantize.blocked import Blocks, blocked
from modelmill.compress.quantize.calibrate import runs
from modelmill.compress.quantize.patches import patches
from modelmill.compress.quantize.start import best
from modelmill.compress.quantize.weights import Weight
from modelmill.contracts import Array
from modelmill.dataset import Dataset
from modelmill.train.rows import tensor

MOST = 4096
"""Rows of inputs of a node that are kept of a batch."""


def steps(weight: Weight, high: int) -> Array:
    """One step for every output channel: the one whose rounding alone has the smallest squared error."""
    return np.asarray(best(tensor(weight.rows), -high, high).numpy(), np.float32)


def by_channel(rows: Array, hessian: Array, step: Array, high: int, damping: float) -> Array:
    """The codes (outputs, inputs) of weights (outputs, inputs) with one step for each output.

    Frantar et al. (2023), algorithm 1 without its lazy batches
    """
    rest, after = rows.astype(np.float64).copy(), _after(hessian, damping)
    codes = np.zeros(rows.shape)
    for i in range(rows.shape[1]):
        codes[:, i] = np.clip(np.round(rest[:, i] / step), -high, high)
        _make_up(rest, codes[:, i] * step, after, i)
    return codes


def by_block(matrix: Array, hessian: Array, bits: int, block: int, damping: float) -> Blocks:
    """The blocks of a weight (inputs, outputs); a block's scale is chosen when its first column is reached."""
    rest, after = matrix.T.astype(np.float64).copy(), _after(hessian, damping)
    inputs, most = len(matrix), 2 ** (bits - 1) - 1
    codes, scales = np.zeros(matrix.shape, np.int64), []
    for i in range(inputs):
        if i % block == 0:
            scales.append(blocked(rest[:, i : i + block].T.astype(np.float32), bits, block, True).scales[0])
        codes[i] = np.clip(np.round(rest[:, i] / scales[-1]), -most - 1, most)
        _make_up(rest, codes[i] * scales[-1], after, i)
    return Blocks(codes, np.array(scales, np.float32), np.zeros((len(scales), matrix.shape[1]), np.int64))


def _after(hessian: Array, damping: float) -> Array:
    """The upper Cholesky factor of the inverse Hessian: row i says how later columns make up for column i."""
    damped = hessian + np.eye(len(hessian)) * max(damping * float(np.mean(np.diag(hessian))), 1e-8)
    return np.asarray(np.linalg.cholesky(np.linalg.inv(damped)).T)


def _make_up(rest: Array, rounded: Array, after: Array, i: int) -> None:
    off = (rest[:, i] - rounded) / after[i, i]
    rest[:, i + 1 :] -= np.outer(off, after[i, i + 1 :])


def hessians(model: Any, given: Mapping[str, Weight], dataset: Dataset) -> dict[str, Array]:
    """For every node but grouped convolutions the mean product of its inputs with each other, (inputs, inputs)."""
    nodes = [node for node in model.graph.node if node.name in given and not _grouped(node)]
    found: dict[str, Array] = {}
    for outputs in runs(model, list(dict.fromkeys(node.input[0] for node in nodes)), dataset):
        for node in nodes:
            rows = inputs(node, outputs[node.input[0]], given[node.name])
            rows = rows[:: max(1, len(rows) // MOST)].astype(np.float64)
            found[node.name] = found.get(node.name, 0) + rows.T @ rows / len(rows)
    return found


def inputs(node: Any, value: Array, weight: Weight) -> Array:
    """What a node multiplies with each column of its weight's rows, (rows, inputs): patches of a convolution's."""
    if node.op_type != "Conv":
        return value.reshape(-1, value.shape[-1])
    found, _ = patches(node, value, weight.value.shape[2:])
    return found.reshape(-1, weight.rows.shape[1])


def _grouped(node: Any) -> bool:
    return any(attribute.name == "group" and attribute.i != 1 for attribute in node.attribute)
