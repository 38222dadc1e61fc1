"""What comes of chains: one network that answers as the mean of some draws, or one that has learned to."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, mse_loss

from modelmill.network.mixture import mixed
from modelmill.train.chains.chain import Chain
from modelmill.train.chains.posterior import Posterior
from modelmill.train.training import Objective


def spread(chain: Chain, count: int) -> list[Tensor]:
    """The weights of so many draws, or of all where there are fewer: the last of every equal part of all chains."""
    sizes = [chunk.tensors["draw/weights"].shape[:2] for chunk in chain.chunks() if "draw/weights" in chunk.tensors]
    chains, draws = sizes[0][0], sum(size[1] for size in sizes)
    count = min(count, chains * draws)
    wanted = [math.ceil(chains * draws * part / count) - 1 for part in range(1, count + 1)]
    found: dict[int, Tensor] = {}
    first = 0
    for chunk in chain.chunks():
        weights = chunk.tensors.get("draw/weights")
        if weights is None:
            continue
        for place in wanted:
            number, draw = divmod(place, draws)
            if first <= draw < first + weights.shape[1]:
                found[place] = weights[number, draw - first].clone()
        first += weights.shape[1]
    return [found[place] for place in wanted]


def network(walker: Posterior, places: Sequence[Tensor], classes: bool) -> torch.nn.Module:
    """One network that answers as the mean of those with these weights."""
    return mixed([walker.network(place) for place in places], classes).eval()


def objective(teacher: torch.nn.Module, classes: bool) -> Objective:
    """A student's loss: the difference to what the teacher says of the same inputs, of probabilities or of values.

    Hinton, Vinyals & Dean (2015), https://arxiv.org/abs/1503.02531; of draws from a posterior: Balan et al. (2015),
    https://arxiv.org/abs/1506.04416
    """
    still = teacher.eval().requires_grad_(False)

    def loss(raw: Tensor, inputs: Tensor, hard: Tensor) -> Tensor:
        with torch.no_grad():
            told = still(inputs)
        if classes:
            return kl_div(log_softmax(raw, 1), log_softmax(told, 1), reduction="batchmean", log_target=True)
        return mse_loss(raw, told)

    return loss
