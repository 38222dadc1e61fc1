"""Pruning of whole channels and neurons by the size of their weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from modelmill.compress.retrain import Retrains
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Magnitude(Compressor, Retrains):
    """Remove the channels and neurons with the smallest weights, then retrain.

    Li et al. (2017), https://arxiv.org/abs/1608.08710
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    ratio: Annotated[float, Meta(ge=0, lt=1)] = 0.5
    """The share of every layer's channels that is removed; at least one stays."""
    norm: Literal["l1", "l2"] = "l2"
    """How the size of a channel's weights is measured."""
    multiple: Annotated[int, Meta(ge=1)] = 4
    """The number of channels that stay is rounded up to a multiple of this."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Prune and retrain a copy of the model."""
        import copy

        from modelmill.network.slicing import kept, parameters, prune

        network = copy.deepcopy(model.body.value)
        before = parameters(network)
        said = prune(network, lambda group: kept(group.width, self.ratio, self.multiple), self.norm)
        if not said:
            note = f"nothing is removed: layers are too narrow for ratio {self.ratio:g} in multiples of {self.multiple}"
            yield Progress(1, 1, note=note, result=model)
            return
        after = parameters(network)
        yield Progress(0, self.epochs, {"weights": after}, f"of {before} weights {after} stay; {', '.join(said)}")
        cut = model.with_body(network, "network", f"prune.magnitude: {', '.join(said)}")
        yield from self.retrained(cut, data, task, seed)
