"""Pruning of whole channels and neurons by how much the loss would change without them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from modelmill.compress.prune.channels import Choice, Cuts, Scoped
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelmill.network.following import Channels


class Taylor(Compressor, Scoped, Cuts):
    """Remove the channels without which the loss changes least, to first order, then retrain.

    The importance of a channel is (sum of gradient times weight)^2, the mean over batches of training rows; the weights
    are the scale and shift of its batch norm, where it has one, else its row of the layer's.

    Molchanov et al. (2019), https://arxiv.org/abs/1906.10771, equation 8
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    rows: Annotated[int, Meta(ge=1)] = 2048
    """How many training rows are looked at."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Prune and retrain a copy of the model."""
        from modelmill.compress.prune.gradients import taylor
        from modelmill.compress.prune.readings import sample

        def importance(network: nn.Module, groups: Sequence[Channels]) -> list[Tensor]:
            return taylor(network, groups, sample(model, data, task, self.rows), task, self.batch)

        yield from self.pruned(model, data, task, seed, Choice(importance, self.cap))
