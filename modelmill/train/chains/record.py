"""What chains leave behind: traces of their epochs and statistics of their draws, put into chunks as they grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modelmill.contracts import Array
from modelmill.train.chains.chain import Chain, Chunk
from modelmill.train.chains.diagnosis import figures

EVERY = 50
"""Draws after which convergence is told anew, where there are more than these."""
BESIDE = frozenset({"weights", "random"})
"""What is kept of a draw beside its statistics."""


class Record:
    """A chain that is being written; what is not in a chunk yet is in memory."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self._statistics: dict[str, list[Array]] = {}
        self._new: dict[str, list[Tensor]] = {}
        self._figures: tuple[int, dict[str, float]] | None = None

    @property
    def draws(self) -> int:
        """How many draws of every chain there are."""
        return len(next(iter(self._statistics.values()), ()))

    @property
    def pending(self) -> bool:
        """Whether there is something that is not in a chunk yet."""
        return bool(self._new)

    @property
    def statistics(self) -> dict[str, Array]:
        """Of all draws, (chains, draws) by name."""
        return {name: np.stack(draws, axis=1) for name, draws in self._statistics.items()}

    @property
    def figures(self) -> dict[str, float]:
        """How far the chains have converged; of many draws not the very last ones, so that it is not told each time."""
        known = self.draws - self.draws % EVERY if self.draws > EVERY else self.draws
        if self._figures is None or self._figures[0] != known:
            self._figures = known, figures({name: draws[:, :known] for name, draws in self.statistics.items()})
        return self._figures[1]

    def last(self, name: str) -> Array:
        """A statistic of the last draw, (chains,)."""
        return self._statistics[name][-1]

    def trace(self, values: Mapping[str, Sequence[float]]) -> None:
        """Take in an epoch: a number of every chain by name."""
        for name, numbers in values.items():
            self._new.setdefault(f"trace/{name}", []).append(torch.tensor(numbers, dtype=torch.float64))

    def draw(self, values: Mapping[str, Sequence[float]], weights: Tensor, random: Sequence[Sequence[int]]) -> None:
        """Take in a draw of every chain: its statistics, its weights, and what its next random numbers start from."""
        for name, numbers in values.items():
            self._statistics.setdefault(name, []).append(np.array(numbers))
            self._new.setdefault(f"draw/{name}", []).append(torch.tensor(numbers, dtype=torch.float64))
        self._new.setdefault("draw/weights", []).append(weights)
        self._new.setdefault("draw/random", []).append(torch.tensor(random))

    def flush(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Put what is new into a chunk, with all that the next epoch depends on."""
        new = {name: torch.stack(values, 1) for name, values in self._new.items()}
        self._new = {}
        self.chain.append(Chunk({**new, **{f"state/{name}": v.clone() for name, v in tensors.items()}}, state))

    def resume(self) -> Chunk | None:
        """What to go on from: the last chunk; the statistics of all draws are here again."""
        for name, draws in self.chain.joined("draw").items():
            if name not in BESIDE:
                self._statistics[name] = list(draws.numpy().T)
        return self.chain.last()
