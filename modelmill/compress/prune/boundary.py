"""Pruning of whole channels and neurons by what they do near the boundary between classes."""

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


class Boundary(Compressor, Scoped, Cuts):
    """Remove the channels that matter least for rows near the decision boundary, then retrain.

    The margin of a row is the logit of its class less the largest of the others. The importance of a channel is the
    mean of |activation times gradient of the margin| over the rows whose margin is below a limit: the quantile `near`
    of all margins, so that misread rows count, and rows that are sure do not. Numbers have no boundary: a regression
    comes through as it is.

    The definition is our own; related: Heo et al. (2019), https://arxiv.org/abs/1811.03233
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    near: Annotated[float, Meta(gt=0, le=1)] = 0.25
    """The share of rows, those with the smallest margin, that count."""
    rows: Annotated[int, Meta(ge=1)] = 4096
    """How many training rows are looked at."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Prune and retrain a copy of the model."""
        from modelmill.compress.prune.margins import nearest, worth
        from modelmill.compress.prune.readings import sample

        if len(model.signature.classes) < 2:
            yield Progress(1, 1, note="nothing is removed: without classes there is no boundary", result=model)
            return

        def importance(network: nn.Module, groups: Sequence[Channels]) -> list[Tensor]:
            seen = sample(model, data, task, self.rows)
            return worth(network, groups, *nearest(network, seen, self.near))

        yield from self.pruned(model, data, task, seed, Choice(importance, self.cap))
