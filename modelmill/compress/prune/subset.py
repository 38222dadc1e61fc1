"""Pruning that keeps the channels and neurons from which the next layer's sums are best made up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from modelmill.compress.prune.channels import Choice, Cuts
from modelmill.compress.retrain import Retrains
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelmill.network.following import Channels


class Subset(Compressor, Cuts, Retrains):
    """Keep the subset of channels whose outputs best rebuild what the next layer makes of all, then retrain.

    Greedy: one after the other that channel goes without which, and without those gone before, the sums of the next
    layer are off by the least, in squares, over the rows, pixels and outputs that are looked at. Channels that cancel
    each other out go together, however large they are.

    Luo et al. (2017), https://arxiv.org/abs/1707.06342, equation 6
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    rows: Annotated[int, Meta(ge=1)] = 512
    """How many training rows are looked at."""
    places: Annotated[int, Meta(ge=1)] = 16
    """How many pixels, or steps, of every row are looked at, drawn at random."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Prune and retrain a copy of the model."""
        from modelmill.compress.prune.readings import sample
        from modelmill.compress.prune.sums import leaving, products

        def importance(network: nn.Module, groups: Sequence[Channels]) -> list[Tensor]:
            features = sample(model, data, task, self.rows).features
            return [leaving(found) for found in products(network, groups, features, self.places, seed)]

        yield from self.pruned(model, data, task, seed, Choice(importance))
