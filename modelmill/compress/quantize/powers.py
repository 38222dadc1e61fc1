"""Grids whose steps are powers of two: a shift takes the place of a multiplication where hardware has one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelmill.compress.quantize.calibrate import Ranges
from modelmill.contracts import Array


def ranged(seen: Ranges) -> Ranges:
    """The ranges widened to what 8 bits hold with a power of two for a step: from 0, or around it."""
    made = {}
    for name, (low, high) in seen.items():
        signed = bool(low < 0)
        least, most = (-128, 127) if signed else (0, 255)
        step = covering(max(float(high) / most, float(low) / least if signed else 0.0))
        made[name] = (np.array(least * step, np.float32), np.array(most * step, np.float32))
    return made


def covering(step: float) -> float:
    """The smallest power of two that is not below a step; of none, a small one.

    >>> covering(0.3), covering(0.25), covering(3)
    (0.5, 0.25, 4.0)
    """
    return float(2.0 ** np.ceil(np.log2(max(step, 2.0**-24)) - 1e-9))


def steps(rows: Array, high: int) -> Array:
    """For every row of weights the power of two whose rounding has the smaller squared error: one that covers the
    largest weight, or half of it.

    >>> steps(np.array([[0.5, 0.24], [1.0, 0.26], [0.0, 0.0]]), 1).tolist()[:2]
    [0.5, 1.0]
    """
    wide = np.array([covering(float(np.abs(row).max()) / high) for row in rows])
    tried = np.stack([wide, wide / 2])
    errors = [[_off(row, step, high) for row, step in zip(rows, s, strict=True)] for s in tried]
    return np.asarray(tried[np.argmin(errors, axis=0), np.arange(len(rows))], np.float32)


def _off(row: Array, step: float, high: int) -> float:
    return float(((np.clip(np.round(row / step), -high, high) * step - row) ** 2).sum())


def formats(steps: Sequence[Array]) -> str:
    """The steps in words: one Qm.n has a step of 2^-n.

    >>> formats([np.array([0.25, 0.5]), np.array(0.25)])
    '2^-2 to 2^-1'
    """
    exponents = np.concatenate([np.log2(step).round().astype(int).ravel() for step in steps])
    low, high = exponents.min(), exponents.max()
    return f"2^{low}" if low == high else f"2^{low} to 2^{high}"
