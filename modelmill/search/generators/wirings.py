"""Draws cells as random graphs."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from modelmill.contracts import Generator, Pick
from modelmill.history import History, Suggestion
from modelmill.search.generated import architecture, cell
from modelmill.search.wirings import barabasi_albert, erdos_renyi, reads, watts_strogatz
from modelmill.space import Space

Model = Literal["watts_strogatz", "erdos_renyi", "barabasi_albert", "uniform"]


class Wirings(Generator):
    """Cells wired as random graphs of one of some models, with operations drawn evenly.

    `uniform` draws every edge that a cell can have by the toss of a coin. What is drawn does not depend on the history.

    Xie, Kirillov, Girshick, He (2019), https://arxiv.org/abs/1904.01569
    """

    models: Annotated[tuple[Model, ...], Meta(min_length=1)] = (
        "watts_strogatz",
        "erdos_renyi",
        "barabasi_albert",
        "uniform",
    )
    """The models of graphs; each candidate is of one of them, in turn."""
    near: Annotated[int, Meta(ge=2)] = 4
    """watts_strogatz: how many nearest nodes each is joined to."""
    rewire: Annotated[float, Meta(ge=0, le=1)] = 0.75
    """watts_strogatz: the probability that an edge leads elsewhere."""
    density: Annotated[float, Meta(ge=0, le=1)] = 0.4
    """erdos_renyi: the probability of every edge."""
    attach: Annotated[int, Meta(ge=1)] = 2
    """barabasi_albert: how many earlier nodes a new one is joined to."""

    def __call__(self, space: Space) -> Pick:
        """Draws of cells, and of the other settings of the arch evenly."""
        spelled, every = cell(space), architecture(space)

        def pick(history: History, seed: int) -> Suggestion:
            random = np.random.default_rng(seed)
            model = self.models[int(random.integers(len(self.models)))]
            settings = {dimension.name: dimension.random(random) for dimension in every}
            if model != "uniform":
                operations = [one.random(random) for _, one in sorted(spelled.operations.items())]
                settings |= spelled.settings(
                    operations, reads(spelled.nodes, self._pairs(model, spelled.nodes, random))
                )
            return Suggestion(settings, {"model": model})

        return pick

    def _pairs(self, model: str, nodes: int, random: np.random.Generator) -> set[tuple[int, int]]:
        if model == "watts_strogatz":
            return watts_strogatz(nodes, self.near, self.rewire, random)
        if model == "erdos_renyi":
            return erdos_renyi(nodes, self.density, random)
        return barabasi_albert(nodes, self.attach, random)
