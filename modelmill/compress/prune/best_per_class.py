"""Pruning that keeps, for every class, the channels and neurons that tell it best from the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from modelmill.compress.prune.channels import Choice, Cuts
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelmill.network.following import Channels


class BestPerClass(Compressor, Cuts):
    """Keep the channels that are the best for each class, then retrain.

    A channel is good for a class when its mean activation on the class lies far, in standard deviations, from that on
    all other rows. The classes choose in turn: the best channel of every class stays first, then the second best of
    every class. Numbers have no classes: a regression comes through as it is.

    The definition is our own; related: Fisher (1936), https://doi.org/10.1111/j.1469-1809.1936.tb02137.x
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    rows: Annotated[int, Meta(ge=1)] = 4096
    """How many training rows are looked at."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Prune and retrain a copy of the model."""
        from modelmill.compress.prune.classes import apart, in_turn
        from modelmill.compress.prune.readings import averages, sample

        if len(model.signature.classes) < 2:
            yield Progress(1, 1, note="nothing is removed: there are no classes to be best for", result=model)
            return

        def importance(network: nn.Module, groups: Sequence[Channels]) -> list[Tensor]:
            seen = sample(model, data, task, self.rows)
            return [
                in_turn(apart(found, seen.encoded))
                for found in averages(network, groups, seen.features, lambda value: value)
            ]

        yield from self.pruned(model, data, task, seed, Choice(importance))
