"""Removal of whole trees from a forest or a boosted ensemble."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from msgspec import Meta

from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Trees(Compressor):
    """Keep the trees from which the answers of all can best be made up, each with a weight of its own.

    Trees are taken one after the other, the one that explains most of what is left first, and all weights are fitted
    anew, none below 0. No labels are asked: what is kept is what the ensemble says.

    Orthogonal matching pursuit: Pati, Rezaiifar & Krishnaprasad (1993), https://doi.org/10.1109/ACSSC.1993.342465;
    trees with fitted weights: Friedman & Popescu (2003), https://arxiv.org/abs/0811.1679
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"estimator", "graph"})
    gives: ClassVar[Kind | None] = "graph"

    ratio: Annotated[float, Meta(ge=0, lt=1)] = 0.5
    """The share of trees that goes."""
    rows: Annotated[int, Meta(ge=16)] = 2000
    """Training rows that the weights are fitted to."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Cut the ensemble; a body without trees stays as it is. Raises ModelError for trees that cannot be cut."""
        from modelmill.compress.prune.ensemble import ensemble
        from modelmill.compress.prune.pursuit import chosen, contributions
        from modelmill.graph.clean import stripped
        from modelmill.graph.export import export

        graph = model.body.value if model.body.kind == "graph" else export(model, task)
        found = ensemble(graph)
        if found is None:
            note = "prune.trees: there are no trees, it stays as it is"
            yield Progress(1, 1, note=note, result=model.with_body(graph, "graph", note))
            return
        stay = max(1, round(found.trees * (1 - self.ratio)))
        yield Progress(0, 1, note=f"{stay} of {found.trees} trees stay")
        kept, weights = chosen(contributions(found, data.train, self.rows, seed), stay)
        if found.average and model.signature.classes:
            weights = weights * (found.trees / weights.sum())
        found.cut(kept, weights)
        note = f"prune.trees: {len(kept)} trees"
        result = model.with_body(stripped(found.model), "graph", note)
        yield Progress(1, 1, {"trees": float(len(kept))}, note, result)
