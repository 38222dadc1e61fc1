"""How many channels of every layer stay, and what is said of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from modelmill.network.slicing import Channels, channels, cut, named, parameters


def together(scores: Sequence[Tensor], ratio: float, least: Sequence[int], multiple: int) -> tuple[list[int], str]:
    """How many channels of each layer stay when the share `ratio` of all goes, the least important first.

    A layer keeps at least its count in `least`; the note says where that held channels back.

    >>> together([torch.tensor([5.0, 6.0, 7.0]), torch.tensor([1.0, 2.0, 9.0])], 0.5, [1, 1], 1)
    ([2, 1], '')
    >>> together([torch.tensor([5.0, 6.0, 7.0]), torch.tensor([1.0, 2.0, 3.0])], 0.5, [1, 2], 1)
    ([1, 2], '')
    """
    owners = torch.cat([torch.full((len(score),), place) for place, score in enumerate(scores)])
    order = owners[torch.argsort(torch.cat([score.double() for score in scores]), stable=True)].tolist()
    left = [len(score) for score in scores]
    goal = round(ratio * len(order))
    held = False
    for place in order:
        if goal == 0:
            break
        if left[place] > least[place]:
            left[place], goal = left[place] - 1, goal - 1
        else:
            held = True
    counts = [min(len(score), -(-n // multiple) * multiple) for n, score in zip(left, scores, strict=True)]
    reached = 1 - sum(counts) / max(len(order), 1)
    short = held and goal > 0
    return counts, f"the cap holds all layers back: the share {reached:.2f} goes, not {ratio:g}" if short else ""


def relative(score: Tensor) -> Tensor:
    """Scores in units of their layer's own, so that layers of different scale can be compared.

    >>> relative(torch.tensor([3.0, 4.0, 0.0, 0.0])).tolist()
    [1.2, 1.6, 0.0, 0.0]
    """
    score = score.double()
    return score / score.pow(2).mean().sqrt().clamp_min(1e-12)


def phrases(network: nn.Module, groups: Sequence[Channels], counts: Sequence[int]) -> str:
    """What becomes of every group, such as "0: 16 to 8, 3 stays (4)"."""
    return ", ".join(
        f"{named(network, group)}: {group.width} to {count}"
        if count < group.width
        else f"{named(network, group)} stays ({count})"
        for group, count in zip(groups, counts, strict=True)
    )


def weights_after(network: nn.Module, fits: Callable[[Channels], bool], counts: Sequence[int]) -> tuple[int, int]:
    """How many weights a network has, and would have with so many channels in its groups; it is left as found."""
    smaller = copy.deepcopy(network)
    for group, count in zip([group for group in channels(smaller) if fits(group)], counts, strict=True):
        if count < group.width:
            cut(group, torch.arange(count))
    return parameters(network), parameters(smaller)
