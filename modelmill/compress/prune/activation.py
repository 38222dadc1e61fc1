"""Pruning of whole channels and neurons by how active they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from modelmill.compress.prune.channels import Choice, Cuts, Scoped
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelmill.network.following import Channels


class Activation(Compressor, Scoped, Cuts):
    """Remove the channels that the next layer sees active the least, then retrain.

    Hu et al. (2016), https://arxiv.org/abs/1607.03250 (share of zeros); Molchanov et al. (2017),
    https://arxiv.org/abs/1611.06440 (mean activation)
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    measure: Literal["mean", "apoz"] = "mean"
    """The mean absolute activation, or the share of activations that are not zero (APoZ), which asks for ReLUs."""
    rows: Annotated[int, Meta(ge=1)] = 1024
    """How many training rows are looked at."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Prune and retrain a copy of the model."""
        from modelmill.compress.prune.readings import averages, sample

        def measure(value: Tensor) -> Tensor:
            return value != 0 if self.measure == "apoz" else value.abs()

        def importance(network: nn.Module, groups: Sequence[Channels]) -> list[Tensor]:
            features = sample(model, data, task, self.rows).features
            return [seen.mean(0) for seen in averages(network, groups, features, measure)]

        yield from self.pruned(model, data, task, seed, Choice(importance, self.cap))
