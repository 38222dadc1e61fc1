"""Which channels leave first when the others make up for each: the sums of the layers that read them tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelmill.contracts import Array
from modelmill.errors import ModelError

LAZY = 256
"""Columns that are kept before they are taken out of the squares."""
LARGE = 1024
"""Inputs of a layer beyond which its weights are multiplied in single precision."""
DAMPING = 1e-4
"""What is added to the squares of inputs, in units of their mean."""


def greedy(sums: Sequence[Sums], count: int) -> Array:
    """So many channels that stay; one after the other goes that is missed least once the others have made up for it."""
    stay = np.ones(sums[0].width, bool)
    while stay.sum() > count:
        costs = np.sum([one.costs() for one in sums], axis=0)
        gone = int(np.where(stay, costs, np.inf).argmin())
        stay[gone] = False
        for one in sums:
            one.drop(gone)
    return np.flatnonzero(stay)


class Sums:
    """The sums of a layer, of which channels are dropped one by one; the others make up for each.

    seen: mean products of the inputs and of a 1 after them; they are written over. rows: weights (outputs, inputs).
    start, width, size: the first number of the channels among the inputs, how many channels, and numbers of each.

    The inverse of the products, P, and the products of the weights, G = W'W, become P - UU' and G - UB' - BU', with a
    few columns more in U and B for every channel that goes. Only what is asked of P and G is worked out then: the
    blocks of single channels, and the columns of the one that goes next.

    Hassibi & Stork (1992), with a channel's inputs together.
    """

    def __init__(self, seen: Array, rows: Array, start: int, width: int, size: int) -> None:
        self.width = width
        self._places = start + np.arange(width * size).reshape(width, size)
        seen[np.diag_indices_from(seen)] += DAMPING * max(float(np.mean(np.diag(seen))), 1e-12)
        self._products = np.zeros_like(seen)
        exact = rows.astype(np.float64) if len(seen) <= LARGE else rows
        for at in range(0, rows.shape[1], LAZY):
            self._products[at : min(at + LAZY, rows.shape[1]), :-1] = exact[:, at : at + LAZY].T @ exact
        self._unit = max(float(np.vdot(self._products, seen)), 1e-300)
        self._inverse = _inverse(seen)
        self._first, self._second = np.zeros((len(seen), LAZY + size)), np.zeros((len(seen), LAZY + size))
        self._used = 0
        self._blocks, self._energies = self._diagonal(self._inverse), self._diagonal(self._products)

    def _diagonal(self, matrix: Array) -> Array:
        """The blocks of single channels, (channels, size, size)."""
        return np.array(matrix[self._places[:, :, None], self._places[:, None, :]])

    def costs(self) -> Array:
        """By how much the sums would be off, squared, without each channel, in units of the sums.

        Of channels that are gone it says nothing.
        """
        if self._blocks.shape[1] == 1:
            return np.asarray(self._energies[:, 0, 0] / self._blocks[:, 0, 0] / self._unit)
        return np.asarray(np.trace(np.linalg.solve(self._blocks, self._energies), axis1=1, axis2=2) / self._unit)

    def drop(self, channel: int) -> None:
        """Let a channel go, and the others make up for it."""
        own, first, second = self._places[channel], self._first[:, : self._used], self._second[:, : self._used]
        inverse = self._inverse[:, own] - first @ first[own].T
        products = self._products[:, own] - first @ second[own].T - second @ first[own].T
        lower = np.linalg.cholesky(inverse[own])
        less = np.linalg.solve(lower, inverse.T).T
        made = np.linalg.solve(lower, products.T).T
        made -= less @ np.linalg.solve(lower, made[own]) / 2
        end = self._used + len(own)
        self._first[:, self._used : end], self._second[:, self._used : end] = less, made
        self._used = end
        parts, others = less[self._places], made[self._places]
        self._blocks -= parts @ parts.transpose(0, 2, 1)
        self._energies -= parts @ others.transpose(0, 2, 1) + others @ parts.transpose(0, 2, 1)
        self._blocks[channel] = np.eye(len(own))
        if self._used >= LAZY:
            self._fold()

    def _fold(self) -> None:
        """Take the columns that were kept out of the squares, some rows at a time."""
        first, second = self._first[:, : self._used], self._second[:, : self._used]
        for at in range(0, len(first), LAZY):
            some = slice(at, at + LAZY)
            self._inverse[some] -= first[some] @ first.T
            self._products[some] -= first[some] @ second.T + second[some] @ first.T
        self._used = 0


def _inverse(square: Array) -> Array:
    """The inverse of a positive matrix, in its place."""
    from scipy.linalg import lapack

    factor, failed = lapack.dpotrf(square.T, lower=1, overwrite_a=1)
    found, failed = (factor, failed) if failed else lapack.dpotri(factor, lower=1, overwrite_c=1)
    if failed:
        said = "the products of a layer's inputs are no positive matrix"
        raise ModelError("compress.prune", said, "Give other rows, or leave this step out.")
    for i in range(len(found)):
        found[i, i + 1 :] = found[i + 1 :, i]
    return np.asarray(found)
