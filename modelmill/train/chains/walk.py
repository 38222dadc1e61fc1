"""One chain's epoch: steps on batches as Langevin dynamics has them, or one step on all rows that may be refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from modelmill.errors import TrialError
from modelmill.train.chains.langevin import Spread, Stage, propose, step
from modelmill.train.chains.posterior import Posterior

CLIP = 1.0
"""The greatest norm of the mean loss's gradient where steps have no noise."""


@dataclass(frozen=True)
class Walked:
    """What is known of an epoch of one chain."""

    loss: float
    """The mean loss on the way."""
    moved: float
    """The root mean square of how far its weights went."""
    spread: float = 0.0
    """The variance of the batches' slopes in the direction in which they differ most; 0 where there are no batches."""
    accepted: float = 1.0
    """The probability with which its step was to be taken."""


def walk(
    posterior: Posterior, stages: Sequence[Stage], rate: float, temperature: float, random: np.random.Generator
) -> Walked:
    """Walk over all rows in a new order, one batch for every stage. Raises TrialError where the loss is lost."""
    weights, count = posterior.weights, len(posterior.rows)
    start, losses, spread = weights.clone(), [], Spread()
    noise = _noise(random)
    order = torch.from_numpy(random.permutation(count))
    for index, now in zip(order.tensor_split(len(stages)), stages, strict=True):
        loss, slope = posterior.slope(index)
        spread.add(slope)
        if not now.noisy:
            slope = slope * min(1.0, CLIP * count / max(float(slope.norm()), 1e-12))
        size = 2 * rate * now.factor / count
        step(weights, slope, size, temperature if now.noisy else 0.0, noise)
        losses.append(loss)
    loss = sum(losses) / len(losses)
    if not math.isfinite(loss):
        raise TrialError("train.mcmc", f"the training loss became {loss}", "Lower the learning rate.")
    posterior.draw_noise(loss, temperature, random)
    return Walked(loss, _distance(start, weights), spread.variance)


def walk_exactly(posterior: Posterior, rate: float, temperature: float, random: np.random.Generator) -> Walked:
    """Propose one step on all rows, and take it or stay, so that the chain has the density and no other."""
    start = posterior.weights.clone()
    size = 2 * rate / len(posterior.rows)
    there, accepted = propose(start, size, temperature, _noise(random), posterior.at)
    if random.random() < accepted:
        posterior.weights.copy_(there)
    loss = posterior.loss()
    posterior.draw_noise(loss, temperature, random)
    return Walked(loss, _distance(start, posterior.weights), accepted=accepted)


def _noise(random: np.random.Generator) -> torch.Generator:
    noise = torch.Generator()
    noise.manual_seed(int(random.integers(2**62)))
    return noise


def _distance(start: torch.Tensor, end: torch.Tensor) -> float:
    return float((end - start).square().mean().sqrt())
