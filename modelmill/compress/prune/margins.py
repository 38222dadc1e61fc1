"""Margins between classes, and what channels are worth to them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from modelmill.compress.prune.readings import effects
from modelmill.network.slicing import Channels
from modelmill.train.answer import forward
from modelmill.train.rows import Rows


def margins(raw: Tensor, encoded: Tensor) -> Tensor:
    """The logit of each row's class less the largest of the others: (rows,).

    >>> margins(torch.tensor([[2.0, 5.0, 1.0], [2.0, 5.0, 1.0]]), torch.tensor([1, 2])).tolist()
    [3.0, -4.0]
    """
    own = raw.gather(1, encoded[:, None])
    others = raw.scatter(1, encoded[:, None], -torch.inf)
    return own[:, 0] - others.max(1).values


def nearest(network: nn.Module, seen: Rows, share: float) -> tuple[Tensor, Tensor]:
    """Features and classes of that share of the rows, at least one, those with the smallest margins."""
    found = margins(forward(network, seen.features), seen.encoded)
    index = torch.argsort(found, stable=True)[: max(1, round(share * len(found)))].sort().values
    return seen.features[index], seen.encoded[index]


def worth(network: nn.Module, groups: Sequence[Channels], features: Tensor, encoded: Tensor) -> list[Tensor]:
    """For every group the mean over rows of |activation times gradient of the margin|: (width,) float64."""
    changes = effects(network, groups, features, lambda raw, rows: margins(raw, encoded[rows]))
    return [change.abs().mean(0) for change in changes]
