"""Losses of a student's hidden values against its teacher's, whatever the number of channels of each.

Values are (rows, channels, *places), where places are pixels, steps or tokens, or (rows, neurons) of a table.
"""

from __future__ import annotations

from torch import Tensor
from torch.linalg import vector_norm
from torch.nn.functional import normalize


def attention(teacher: Tensor, student: Tensor) -> Tensor:
    """The distance of normalised maps of energy, mean over rows (Zagoruyko & Komodakis, equation 2 with p = 2).

    A map is the sum of squares over channels. Hidden values without places have one number a row: there the map is
    that of the batch.
    """
    return vector_norm(_energy(student) - _energy(teacher), dim=1).mean()


def _energy(values: Tensor) -> Tensor:
    energy = values.pow(2).mean(1)
    return normalize(energy.flatten(1) if energy.ndim > 1 else energy[None], dim=1)


def similarity(teacher: Tensor, student: Tensor) -> Tensor:
    """The squared distance of how rows resemble each other, over the squared batch (Tung & Mori, equations 1 to 4)."""
    return (_likeness(student) - _likeness(teacher)).pow(2).sum() / len(teacher) ** 2


def _likeness(values: Tensor) -> Tensor:
    """(rows, rows) inner products, every row of length one."""
    flat = values.flatten(1)
    return normalize(flat @ flat.T, dim=1)


def selectivity(teacher: Tensor, student: Tensor) -> Tensor:
    """The squared maximum mean discrepancy of what neurons react to, by the kernel (x'y)^2 (Huang & Wang, equation 5).

    A neuron is told by its map over places, of length one; without places, by its values over the batch.
    """
    first, second = _reactions(teacher), _reactions(student)
    return (_kernel(first, first) + _kernel(second, second) - 2 * _kernel(first, second)).mean()


def _reactions(values: Tensor) -> Tensor:
    """(rows, neurons, places), or (1, neurons, rows) where there are none."""
    return normalize(values.flatten(2) if values.ndim > 2 else values.T[None], dim=2)


def _kernel(first: Tensor, second: Tensor) -> Tensor:
    return (first @ second.transpose(1, 2)).pow(2).mean((1, 2))
