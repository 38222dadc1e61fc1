"""Draws architectures from a small recurrent network that learns which ones are good."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from modelmill.contracts import Generator, Pick
from modelmill.history import History, Past, Suggestion
from modelmill.search.generated import architecture
from modelmill.search.past import order
from modelmill.space import Dimension, Settings, Space


class Controller(Generator):
    """A recurrent network that emits an architecture token by token, taught by REINFORCE.

    The reward of an architecture is the share of earlier ones that it beats, less a running mean; an entropy bonus
    keeps the draws apart. A range of numbers is cut into bins. The network is taught by the trials in the order of
    their numbers, up to the first that still runs.

    Zoph, Le (2017), https://arxiv.org/abs/1611.01578
    """

    units: Annotated[int, Meta(ge=4, le=512)] = 32
    """Neurons of the recurrent layer."""
    bins: Annotated[int, Meta(ge=2)] = 6
    """Tokens that stand for a range of numbers."""
    learning_rate: Annotated[float, Meta(gt=0)] = 0.02
    """Step size of the lessons."""
    entropy: Annotated[float, Meta(ge=0)] = 0.02
    """Weight of the entropy bonus."""
    memory: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    """How slowly the mean reward moves that every reward is compared with."""

    def __call__(self, space: Space) -> Pick:
        """Draws from the network as the history has taught it."""
        every = architecture(space)
        taught: list[_Taught] = []

        def pick(history: History, seed: int) -> Suggestion:
            if not taught or not taught[0].leads_to(history):
                taught[:] = [_Taught(self, every, space)]
            taught[0].learn(history)
            return Suggestion(taught[0].draw(seed))

        return pick


class _Taught:
    """The network and which trials have taught it; state: its weights, the mean reward, those trials."""

    def __init__(self, settings: Controller, every: list[Dimension], space: Space) -> None:
        import torch
        from torch import nn

        self._settings, self._space = settings, space
        self._names = {one.key: i for i, one in enumerate(every)}
        self._tokens = [len(one.options) or settings.bins for one in every]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            size = settings.units
            self._net = nn.ModuleDict(
                {
                    "embed": nn.Embedding(sum(self._tokens) + 1, size),
                    "cell": nn.GRUCell(size, size),
                    **{f"head{i}": nn.Linear(size, count) for i, count in enumerate(self._tokens)},
                }
            ).double()
        self._optimizer = torch.optim.Adam(self._net.parameters(), lr=settings.learning_rate)
        self._mean = 0.5
        self._past: list[Past] = []

    def leads_to(self, history: History) -> bool:
        """Whether this history begins with the one that was learned."""
        return [(one.number, one.state) for one in history[: len(self._past)]] == [
            (one.number, one.state) for one in self._past
        ]

    def learn(self, history: History) -> None:
        """Take in the trials that have ended, up to the first that still runs."""
        for one in history[len(self._past) :]:
            if one.state == "running":
                return
            self._past.append(one)
            self._lesson(one)

    def _lesson(self, one: Past) -> None:
        place = {other.number: i for i, other in enumerate(order(self._past))}
        reward = 1 - place[one.number] / max(len(place) - 1, 1)
        advantage = reward - self._mean
        self._mean = self._settings.memory * self._mean + (1 - self._settings.memory) * reward
        chance, entropy = self._said(one.settings)
        loss = -advantage * chance - self._settings.entropy * entropy
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

    def draw(self, seed: int) -> Settings:
        """An architecture, dimension by dimension as the walk meets them; all other settings are left out."""
        import torch

        random = np.random.default_rng(seed)
        found: Settings = {}
        state = self._start()

        def choose(dimension: Dimension) -> Any:
            nonlocal state
            if dimension.key not in self._names:
                return dimension.random(random)
            state, logits = self._step(state, dimension)
            chances = torch.softmax(logits, 0).numpy()
            token = int(random.choice(len(chances), p=chances / chances.sum()))
            state = (state[0], self._token(dimension, token))
            found[dimension.name] = self._value(dimension, token, random)
            return found[dimension.name]

        with torch.no_grad():
            self._space.answered(choose)
        return found

    def _said(self, settings: Settings) -> tuple[Any, Any]:
        """The logarithm of the chance of an architecture, and the entropy of the tokens on its way."""
        import torch

        state = self._start()
        chance, entropy = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for dimension in self._space.met(settings):
            if dimension.key in self._names:
                state, logits = self._step(state, dimension)
                logs = torch.log_softmax(logits, 0)
                token = self._token_of(dimension, settings[dimension.name])
                chance = chance + logs[token]
                entropy = entropy - (logs.exp() * logs).sum()
                state = (state[0], self._token(dimension, token))
        return chance, entropy

    def _start(self) -> tuple[Any, int]:
        import torch

        return torch.zeros(1, self._settings.units, dtype=torch.float64), sum(self._tokens)

    def _step(self, state: tuple[Any, int], dimension: Dimension) -> tuple[tuple[Any, int], Any]:
        """One step of the network: the new state, and the scores of the dimension's tokens."""
        import torch

        hidden = self._net["cell"](self._net["embed"](torch.tensor([state[1]])), state[0])
        return (hidden, state[1]), self._net[f"head{self._names[dimension.key]}"](hidden)[0]

    def _token(self, dimension: Dimension, token: int) -> int:
        """The number of a token among those of all dimensions."""
        return sum(self._tokens[: self._names[dimension.key]]) + token

    def _token_of(self, dimension: Dimension, value: Any) -> int:
        if dimension.options:
            return dimension.ranked.index(value)
        return min(int(dimension.unit(value) * self._settings.bins), self._settings.bins - 1)

    def _value(self, dimension: Dimension, token: int, random: np.random.Generator) -> Any:
        if dimension.options:
            return dimension.ranked[token]
        return dimension.at((token + random.random()) / self._settings.bins)
