"""Factoring of linear layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from modelmill.compress.factor.layers import Factored, Factors
from modelmill.compress.retrain import Retrains
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Svd(Compressor, Factors, Retrains):
    """Replace linear layers and 1x1 convolutions by two thinner ones, where that saves weights, then retrain.

    A layer of m outputs and n inputs gets smaller only below the rank mn / (m + n); others stay as they are.

    Denton et al. (2014), https://arxiv.org/abs/1404.0736
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Factor and retrain a copy of the model."""
        yield from self.factored(model, data, task, seed, self._split)

    def _split(self, layer: Any) -> Factored | None:
        from modelmill.compress.factor.thinner import is_matrix, matrix, two

        if not is_matrix(layer):
            return None
        weight = matrix(layer)
        outputs, inputs = weight.shape
        count = self._rank(weight)
        if not 1 <= count * (outputs + inputs) < outputs * inputs:
            return None
        return two(layer, weight, count)

    def _rank(self, weight: Any) -> int:
        import numpy as np

        from modelmill.compress.factor.decompositions import rank

        if self.by == "energy":
            return rank(np.linalg.svd(weight, compute_uv=False), self.energy)
        return max(1, int((1 - self.ratio) * weight.size / sum(weight.shape)))
