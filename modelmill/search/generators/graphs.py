"""Draws cells from a generator of graphs whose few numbers are themselves searched."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from modelmill.contracts import Generator, Pick
from modelmill.history import History, Suggestion
from modelmill.search.generated import Cell, architecture, cell
from modelmill.search.seeds import derive
from modelmill.search.wirings import reads, watts_strogatz
from modelmill.space import Choose, Dimension, Space


class Graphs(Generator):
    """Watts-Strogatz graphs whose density, rewiring and shares of operations a Gaussian process looks for.

    What is searched are the numbers of the generator, not the edges: a good generator draws many good cells, and there
    are few numbers to find. The settings of the arch beside the cell are searched with them.

    Ru, Esperanca, Carlucci (2020), https://arxiv.org/abs/2004.01395
    """

    near: Annotated[int, Meta(ge=2)] = 6
    """The most nodes that each is joined to before edges are turned elsewhere."""

    def __call__(self, space: Space) -> Pick:
        """Draws of cells from the generator that promises most."""
        from modelmill.search.samplers.gp import Gp

        spelled = cell(space)
        cells = {one.name for one in (*spelled.operations.values(), *spelled.edges.values())}
        others = [one for one in architecture(space) if one.name not in cells]
        kinds = sorted({option for one in spelled.operations.values() for option in one.options})
        inner = Space(lambda choose: self._walk(choose, kinds, others))
        promising = Gp()(inner)

        def pick(history: History, seed: int) -> Suggestion | None:
            known = [msgspec.structs.replace(one, settings=one.memo["numbers"]) for one in history if one.memo]
            found = promising(known, derive(seed, "numbers"))
            if found is None:
                return None
            random = np.random.default_rng(seed)
            drawn = _drawn(spelled, kinds, found.settings, random)
            rest = {one.name: found.settings[one.name] for one in others}
            return Suggestion({**rest, **drawn}, {"numbers": found.settings})

        return pick

    def _walk(self, choose: Choose, kinds: list[Any], others: list[Dimension]) -> None:
        choose(Dimension("near", low=2, high=self.near, integer=True, step=2))
        choose(Dimension("rewire", low=0.0, high=1.0))
        for kind in kinds[1:]:
            choose(Dimension(f"share {kind}", low=-3.0, high=3.0))
        for other in others:
            choose(other)


def _drawn(spelled: Cell, kinds: list[Any], numbers: dict[str, Any], random: np.random.Generator) -> dict[str, Any]:
    """The settings of one cell: `share`s are the logarithms of how often an operation is drawn against the first."""
    pairs = watts_strogatz(spelled.nodes, int(numbers["near"]), float(numbers["rewire"]), random)
    weights = np.exp([float(numbers.get(f"share {kind}", 0.0)) for kind in kinds])
    operations = []
    for _, one in sorted(spelled.operations.items()):
        able = [kinds.index(option) for option in one.options]
        chances = weights[able] / weights[able].sum()
        operations.append(one.options[int(random.choice(len(able), p=chances))])
    return spelled.settings(operations, reads(spelled.nodes, pairs))
