"""Factoring of convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from modelmill.compress.factor.layers import Factored, Factors
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Tucker(Compressor, Factors):
    """Replace convolutions by a thinner one between two of 1x1, where that saves weights and products, then retrain.

    Kernels are factored along outputs and inputs (Tucker-2). With `energy` each side keeps that share by itself; with
    `ratio` both sides are made thinner alike. Convolutions of 1x1 are for `factor.svd`; depthwise ones stay.

    Kim et al. (2016), https://arxiv.org/abs/1511.06530
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Factor and retrain a copy of the model."""
        yield from self.factored(model, data, task, seed, self._split)

    def _split(self, layer: Any) -> Factored | None:
        from modelmill.compress.factor.thinner import cost, is_kernel, is_matrix, three

        if not is_kernel(layer) or is_matrix(layer):
            return None
        full = tuple(layer.weight.shape[:2])
        ranks = self._ranks(layer, full)
        smaller = all(now < before for now, before in zip(cost(layer, ranks), cost(layer, full), strict=True))
        return three(layer, ranks) if smaller else None

    def _ranks(self, layer: Any, full: tuple[int, int]) -> tuple[int, int]:
        from modelmill.compress.factor.decompositions import rank, spectrum
        from modelmill.compress.factor.thinner import cost, kernel

        if self.by == "energy":
            weight = kernel(layer)
            return rank(spectrum(weight, 0), self.energy), rank(spectrum(weight, 1), self.energy)
        most = (1 - self.ratio) * cost(layer, full)[0]
        shares = (step / 64 for step in range(63, 0, -1))
        pairs = ((max(1, int(share * full[0])), max(1, int(share * full[1]))) for share in shares)
        return next((ranks for ranks in pairs if cost(layer, ranks)[0] <= most), full)
