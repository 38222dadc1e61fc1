"""Several networks that answer as one; imported only where torch is at hand."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from modelmill.network.blocks import named_weights


class Mixture(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """The mean of what its members say: of their probabilities, given as logarithms, or of their values.

    members: networks of the same inputs and outputs. classify: whether their outputs are logits.
    """

    def __init__(self, members: Sequence[nn.Module], classify: bool) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.classify = classify

    def forward(self, x: Tensor) -> Tensor:
        """(batch, ...) to (batch, outputs); as logits they mean the very probabilities."""
        raw = torch.stack([member(x) for member in self.members])
        if not self.classify:
            return raw.mean(0)
        return cast(Tensor, raw.log_softmax(-1).logsumexp(0) - math.log(len(raw)))


def mixed(members: Sequence[nn.Module], classify: bool) -> nn.Module:
    """One network of the members; a single one is given as it is.

    Values pass through a last layer that leaves them as they are, so that a unit can be folded into it.
    """
    if len(members) == 1:
        return members[0]
    mixture = Mixture(members, classify)
    if classify:
        return mixture
    last = nn.Linear(1, 1)
    with torch.no_grad():
        last.weight.fill_(1.0)
        last.bias.zero_()
    return nn.Sequential(mixture, last)


def like(names: Iterable[str], make: Callable[[], nn.Module], classify: bool) -> nn.Module:
    """The network that has weights of these names: what `make` makes, or a mixture of so many of those.

    >>> make = lambda: nn.Linear(3, 1)
    >>> len(like(mixed([make(), make()], classify=False).state_dict(), make, classify=False)[0].members)
    2
    >>> like(make().state_dict(), make, classify=False)
    Linear(in_features=3, out_features=1, bias=True)
    """
    one, names = make(), set(names)
    if names == named_weights(one).keys():
        return one
    numbers = {found[1] for name in names if (found := re.match(r"(?:0\.)?members\.(\d+)\.", name))}
    return mixed([make() for _ in numbers or "1"], classify)
