"""Factoring of linear layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from modelmill.compress.factor.layers import Factored, Factors
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Svd(Compressor, Factors):
    """Replace linear layers and 1x1 convolutions by two thinner ones, where that saves weights, then retrain.

    A layer of m outputs and n inputs gets smaller only below the rank mn / (m + n); others stay as they are. A graph is
    factored without training, so that more of it must be kept.

    Denton et al. (2014), https://arxiv.org/abs/1404.0736
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network", "graph"})

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Factor a copy of the model; a network is retrained."""
        if model.body.kind == "graph":
            yield from self._graph(model)
        else:
            yield from self.factored(model, data, task, seed, self._split)

    def _graph(self, model: Model) -> Iterator[Progress]:
        from modelmill.compress.convert.cleaning import written
        from modelmill.compress.factor.graphs import factored, linear
        from modelmill.compress.quantize.graphs import load, outcome, planned

        proto = load(model.body.value)
        nodes = linear(proto)
        nodes = nodes[:-1] if self.by == "ratio" else nodes
        yield planned(len(nodes), f"become two thinner ones where that saves weights ({self.wanted})")
        said = factored(proto, nodes, self._count)
        if not said:
            note = f"nothing is factored: no float32 layer gets smaller at {self.wanted}"
            yield Progress(1, 1, note=note, result=model)
            return
        yield outcome(model, written(proto), "factor.svd", len(said), f"are two thinner ones ({', '.join(said)})")

    def _split(self, layer: Any) -> Factored | None:
        from modelmill.compress.factor.thinner import is_matrix, matrix, two

        if not is_matrix(layer):
            return None
        weight = matrix(layer)
        outputs, inputs = weight.shape
        count = self._count(self._values(weight), weight.shape)
        if not 1 <= count * (outputs + inputs) < outputs * inputs:
            return None
        return two(layer, weight, count)

    def _values(self, weight: Any) -> Any:
        """The singular values, where they are asked for."""
        import numpy as np

        return np.linalg.svd(weight, compute_uv=False) if self.by == "energy" else None

    def _count(self, values: Any, shape: tuple[int, int]) -> int:
        from modelmill.compress.factor.decompositions import rank

        if self.by == "energy":
            return rank(values, self.energy)
        return max(1, int((1 - self.ratio) * shape[0] * shape[1] / sum(shape)))
