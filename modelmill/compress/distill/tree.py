"""Distillation into a decision tree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from msgspec import Meta

from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Tree(Compressor):
    """Grow one decision tree on the model's probabilities: as fast as a body can be, and readable.

    A row counts for every class as much as the model gives it, so that leaves hold mean probabilities. It is much
    weaker than a network on images.

    Craven & Shavlik (1995), https://proceedings.neurips.cc/paper/1995/hash/45f31d16b1058d586fc3be7207b58053-Abstract.html
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network", "estimator", "graph"})
    gives: ClassVar[Kind | None] = "estimator"

    depth: Annotated[int, Meta(ge=1, le=64)] = 8
    """Questions on the way to a leaf, at most."""
    min_leaf: Annotated[int, Meta(ge=1)] = 5
    """Training rows that a leaf must hold."""
    share: Annotated[float, Meta(ge=0, le=1)] = 0.7
    """The weight of what the model says; the rest goes to the truth."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Grow the tree; the model itself is left as found."""
        from modelmill.compress.distill.anew import prepared
        from modelmill.compress.distill.cheap import fit, tabular, tree
        from modelmill.compress.distill.labels import targets
        from modelmill.runtime.features import features

        yield Progress(0, 1, note=f"a tree of depth {self.depth} takes the place of the {model.body.kind}")
        labels = targets(model, data.train, task, self.share)
        base = prepared(model, data.train, "table")
        inputs = features(base.part, model.signature, data.train)
        estimator = tree(self.depth, self.min_leaf, len(inputs), bool(model.signature.classes), seed)
        said = fit(estimator, inputs, labels, data.train.weights)
        arch = {"method": "tree", "depth": self.depth, "min_leaf": self.min_leaf}
        note = f"distill.tree: {estimator.get_n_leaves()} leaves, depth {estimator.get_depth()}"
        result = tabular(base, inputs.shape[1:]).with_body(estimator, "estimator", note, arch)
        yield Progress(1, 1, {"leaves": float(estimator.get_n_leaves())}, said, result)
