"""Settings of draws from the posterior of a network's weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True, kw_only=True)
class Draws:
    """How chains walk, what is drawn of them, and what comes of it; a trainer has them by deriving from this."""

    learning_rate: Annotated[float, Meta(gt=0, le=10)] = 1.0
    """The largest step size, as of plain descent on the mean loss; burn-in may lower it."""
    batch_noise: Annotated[float, Meta(ge=0)] = 1.0
    """How much variance batches may add to that of the noise, at the worst direction; 0 keeps the step size."""
    temperature: Annotated[float, Meta(gt=0, le=10)] = 0.1
    """How wide draws spread: 1 is the posterior of Bayes, less stays nearer to its peaks."""
    prior: Annotated[float, Meta(gt=0)] = 1.0
    """The standard deviation that every weight has before data are seen."""
    noise: Annotated[float, Meta(ge=0)] = 0.0
    """The deviation of what no model can tell of a number, as a share of the target's; 0 draws it with the weights."""
    epochs: Annotated[int, Meta(ge=1)] = 60
    """How often every chain sees every training row."""
    batch: Annotated[int, Meta(ge=2)] = 64
    """Rows a step."""
    burn_in: Annotated[float, Meta(ge=0, lt=1)] = 0.3
    """The share of epochs that descends and adapts, and of which nothing is kept."""
    cycles: Annotated[int, Meta(ge=0)] = 4
    """How often the step size starts anew after burn-in; with 0 it stays."""
    explore: Annotated[float, Meta(ge=0, lt=1)] = 0.5
    """The share of each cycle that looks for another place, without noise, and of which nothing is kept."""
    metropolis: bool = False
    """One step an epoch, of all rows, taken or refused so that draws have no error; steps do not cycle then."""
    thin: Annotated[int, Meta(ge=1)] = 1
    """Epochs from one draw to the next."""
    chains: Annotated[int, Meta(ge=1, le=64)] = 2
    """Chains, each from weights of its own where none were trained; their agreement tells whether they converged."""
    members: Annotated[int, Meta(ge=1, le=256)] = 8
    """How many draws the result holds at most, evenly spread over chains."""
    distill: Annotated[int, Meta(ge=0)] = 0
    """Epochs in which one network of the same arch learns what the average answers, to be served instead; 0 is off."""
    store: str = ""
    """A folder in which chains are kept, each in one of its own; without it they are kept in memory."""
    chunk: Annotated[int, Meta(ge=1)] = 10
    """Epochs in one file of the store; a killed run repeats at most so many."""
    seconds: Annotated[float, Meta(ge=0)] = 0.0
    """How long it may take: the schedule is shortened to fit; 0 is no limit."""
