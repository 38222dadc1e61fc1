"""Rounds weights column by column, each column making up for what rounding those before it did to the outputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from modelmill.compress.quantize.blocked import Blocks, blocked
from modelmill.compress.quantize.start import best
from modelmill.compress.quantize.weights import Weight
from modelmill.contracts import Array
from modelmill.errors import ModelError
from modelmill.train.rows import tensor

LAZY = 128
"""Columns after which those behind them are brought up to date; every block of inputs ends with one of these."""


def steps(weight: Weight, high: int) -> Array:
    """One step for every output channel: the one whose rounding alone has the smallest squared error."""
    return np.asarray(best(tensor(weight.rows), -high, high).numpy(), np.float32)


def by_channel(rows: Array, hessian: Array, step: Array, high: int, damping: float) -> Array:
    """The codes (outputs, inputs) of weights (outputs, inputs) with one step for each output.

    The Hessian is written over.

    Frantar et al. (2023), algorithm 1
    """
    codes = np.zeros(rows.shape[::-1], np.int8)

    def rounded(i: int, rest: Array) -> Array:
        codes[i] = np.clip(np.round(rest[i] / step), -high, high)
        return np.asarray(codes[i] * step)

    _work_through(rows.T, hessian, damping, rounded)
    return codes.T


def by_block(matrix: Array, hessian: Array, bits: int, block: int, damping: float) -> Blocks:
    """The blocks of a weight (inputs, outputs); a block's scale is chosen when its first column is reached.

    The Hessian is written over.
    """
    most = 2 ** (bits - 1) - 1
    codes, scales = np.zeros(matrix.shape, np.int8), list[Array]()

    def rounded(i: int, rest: Array) -> Array:
        if i % block == 0:
            scales.append(blocked(rest[i : i + block].astype(np.float32), bits, block, True).scales[0])
        codes[i] = np.clip(np.round(rest[i] / scales[-1]), -most - 1, most)
        return np.asarray(codes[i] * scales[-1])

    _work_through(matrix, hessian, damping, rounded)
    return Blocks(codes, np.array(scales, np.float32), np.zeros((len(scales), matrix.shape[1]), np.int8))


def _work_through(matrix: Array, hessian: Array, damping: float, rounded: Callable[[int, Array], Array]) -> None:
    """Round the rows of a weight (inputs, outputs) one after the other; those that are left make up for each."""
    rest, after = matrix.astype(np.float64), _after(hessian, damping)
    for start in range(0, len(rest), LAZY):
        end = min(start + LAZY, len(rest))
        off = np.empty((end - start, rest.shape[1]))
        for i in range(start, end):
            off[i - start] = (rest[i] - rounded(i, rest)) / after[i, i]
            rest[i + 1 : end] -= np.outer(after[i, i + 1 : end], off[i - start])
        for at in range(end, len(rest), LAZY):
            rest[at : at + LAZY] -= after[start:end, at : at + LAZY].T @ off


def _after(hessian: Array, damping: float) -> Array:
    """The upper Cholesky factor of the inverse Hessian: row i says how later columns make up for column i.

    It is the inverse of the factor that is found from the other end, in the place of the Hessian.
    """
    from scipy.linalg import lapack

    hessian[np.diag_indices_from(hessian)] += max(damping * float(np.mean(np.diag(hessian))), 1e-8)
    _turn(hessian)
    factor, failed = lapack.dpotrf(hessian.T, lower=1, overwrite_a=1)
    inverse, failed = (factor, failed) if failed else lapack.dtrtri(factor, lower=1, overwrite_c=1)
    if failed:
        said = "the products of a layer's inputs are no positive matrix"
        raise ModelError("compress.quantize", said, "Give other rows, or leave this step out.")
    return np.asarray(inverse)[::-1, ::-1]


def _turn(square: Array) -> None:
    """Let both axes run from their other end, in place."""
    last = len(square) - 1
    for i in range(len(square) // 2):
        square[i], square[last - i] = square[last - i, ::-1].copy(), square[i, ::-1].copy()
    if len(square) % 2:
        square[len(square) // 2] = square[len(square) // 2, ::-1].copy()
