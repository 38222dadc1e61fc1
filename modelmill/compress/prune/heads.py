"""Pruning of whole attention heads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from msgspec import Meta

from modelmill.compress.retrain import Guided
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Heads(Compressor, Guided):
    """Remove the attention heads that the loss depends on least, then retrain.

    The importance of a head is how much the loss of a row changes, to first order, when what the head says is turned
    down: the mean of |activation times gradient|, in units of its layer. The share `ratio` of all heads goes, and one
    of every layer stays; to remove whole layers is for `prune.blocks`. A network without attention comes through as is.

    Michel et al. (2019), https://arxiv.org/abs/1905.10650, equation 2
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    ratio: Annotated[float, Meta(ge=0, lt=1)] = 0.5
    """The share of all heads that is removed, rounded; at least one of every layer stays."""
    rows: Annotated[int, Meta(ge=1)] = 4096
    """How many training rows are looked at."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Remove heads from a copy of the model, and retrain it."""
        import copy

        from modelmill.compress.prune.attending import attending, importance, told
        from modelmill.compress.prune.counts import together
        from modelmill.compress.prune.readings import sample
        from modelmill.network.slicing import largest, parameters

        network = copy.deepcopy(model.body.value).eval().requires_grad_(True)
        layers = attending(network)
        total = sum(layer.heads for layer in layers.values())
        count = min(int(self.ratio * total + 0.5), total - len(layers))
        if not count:
            note = f"nothing is removed: of {total} attention heads the share {self.ratio:g} is none that can go"
            yield Progress(1, 1, note=note, result=model)
            return
        before = parameters(network)
        note = f"of {total} attention heads {count} go, the least important; one of every layer stays"
        yield Progress(0, self.epochs, {"weights": before}, note)
        scores = importance(network, list(layers.values()), sample(model, data, task, self.rows), task)
        counts, _ = together(scores, count / total, [1] * len(scores), 1)
        said = told(layers, counts)
        for layer, score, stay in zip(layers.values(), scores, counts, strict=True):
            layer.keep(largest(score, stay))
        after = parameters(network)
        yield Progress(0, self.epochs, {"weights": after}, f"of {before} weights {after} stay; {said}")
        changed = model.with_body(network, "network", f"prune.heads: {said}")
        yield from self.regained(model, changed, data, task, seed)
