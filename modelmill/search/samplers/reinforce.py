"""Trains a policy that picks settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from modelmill.contracts import Pick, Sampler
from modelmill.history import History, Past, Suggestion
from modelmill.search.population.mixed import movable
from modelmill.search.population.replay import Replay
from modelmill.search.population.verdict import beats, judged
from modelmill.space import Dimension, Settings, Space

Array = np.ndarray[Any, Any]

KEY = "reinforce"


class Reinforce(Sampler):
    """A policy that is rewarded for good trials: one distribution for every setting, learned by policy gradient.

    Options are drawn by their chances, numbers from a normal distribution of their own; a setting that a trial's branch
    does not have is not judged by it. A trial's reward is the part of the latest ones that it beats, times
    (1 + misses) to the power of -`limits`: one that misses limits by little still counts for something. What is learned
    from is how far the reward lies above the mean of late, and a bonus on entropy keeps the policy from settling early.
    Needs hundreds of trials, and sees no interplay of settings: other samplers are the better first choice.

    Williams (1992), https://doi.org/10.1007/BF00992696; Zoph, Le (2017), https://arxiv.org/abs/1611.01578; limits Tan
    et al. (2019), https://arxiv.org/abs/1807.11626; natural gradient Kakade (2001)
    """

    rate: Annotated[float, Meta(gt=0, le=1)] = 0.15
    """How far the policy follows one trial."""
    entropy: Annotated[float, Meta(ge=0)] = 0.02
    """Weight of the bonus on entropy, against rewards from 0 to 1."""
    baseline: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    """How much of the mean reward of late is kept with each trial."""
    window: Annotated[int, Meta(ge=2)] = 50
    """Trials among which a trial has its place."""
    limits: Annotated[float, Meta(ge=0)] = 4.0
    """How sharply missed limits lower the reward; infinitely missed ones leave nothing."""

    def __call__(self, space: Space) -> Pick:
        """Picks by the policy that the trials so far have taught."""
        start = Policy({d.key: _even(d) for d in space.dimensions if movable(d)})
        replay = Replay(lambda: start, lambda policy, one: self._step(space, policy, one))

        def pick(history: History, seed: int) -> Suggestion | None:
            policy, draw = replay(history), np.random.default_rng(seed)
            settings = space.answered(lambda dimension: _draw(policy, dimension, draw))
            return Suggestion(settings, {KEY: {"baseline": round(policy.baseline, 6)}})

        return pick

    def _step(self, space: Space, policy: Policy, one: Past) -> Policy:
        if not judged(one):
            return policy
        latest = (*policy.latest, one)[-self.window :]
        reward = self._reward(latest)
        advantage = reward - policy.baseline
        learned = dict(policy.chances)
        for dimension in space.met(one.settings):
            if dimension.key in learned:
                now = learned[dimension.key]
                towards = _towards(dimension, now, one.settings)
                learned[dimension.key] = _bounded(
                    dimension, now + self.rate * (advantage * towards + self.entropy * _spreading(dimension, now))
                )
        baseline = self.baseline * policy.baseline + (1 - self.baseline) * reward
        return replace(policy, chances=learned, latest=latest, baseline=baseline)

    def _reward(self, latest: tuple[Past, ...]) -> float:
        """The part of some trials that the last one beats, ties for half, lowered by the limits that it misses."""
        one = latest[-1]
        if not one.losses or not np.isfinite(one.misses):
            return 0.0
        rows = np.array([(0.0, *other.losses) for other in latest if other.losses])
        better, worse = beats(rows[-1], rows).sum(), beats(rows, rows[-1]).sum()
        return float((0.5 + (better - worse) / (2 * len(rows))) * (1 + one.misses) ** -self.limits)


@dataclass(frozen=True, eq=False)
class Policy:
    """What the policy has learned."""

    chances: dict[str, Array]
    """Dimension: the logits of its options, or of a number its mean and the logarithm of its deviation."""
    latest: tuple[Past, ...] = ()
    baseline: float = 0.5


def _even(dimension: Dimension) -> Array:
    if dimension.kind == "category":
        return np.zeros(len(dimension.options))
    return np.array([0.5, np.log(0.3)])


def chances(logits: Array) -> Array:
    """(options,) probabilities that sum to 1."""
    raw = np.exp(logits - logits.max())
    return np.asarray(raw / raw.sum())


def _draw(policy: Policy, dimension: Dimension, draw: np.random.Generator) -> Any:
    now = policy.chances.get(dimension.key)
    if now is None:
        return dimension.at(0.5)
    if dimension.kind == "category":
        return dimension.options[int(draw.choice(len(now), p=chances(now)))]
    for _ in range(8):
        unit = now[0] + np.exp(now[1]) * draw.standard_normal()
        if 0 <= unit <= 1:
            break
    return dimension.at(unit)


def _towards(dimension: Dimension, now: Array, settings: Settings) -> Array:
    """The gradient of the logarithm of how likely the pick was; of numbers the natural one, which knows no scale."""
    value = settings[dimension.name]
    if dimension.kind == "category":
        return np.asarray(np.eye(len(now))[dimension.options.index(value)] - chances(now)) * len(now)
    spread = np.exp(now[1])
    z = np.clip((dimension.unit(value) - now[0]) / spread, -3, 3)
    return np.array([spread * z, (z * z - 1) / 2])


def _spreading(dimension: Dimension, now: Array) -> Array:
    """The gradient of the entropy."""
    if dimension.kind == "category":
        p = chances(now)
        log = np.log(np.maximum(p, 1e-12))
        return np.asarray(-p * (log - (p * log).sum())) * len(now)
    return np.array([0.0, 1.0])


def _bounded(dimension: Dimension, found: Array) -> Array:
    """Parameters with which every option keeps a chance, and every number lies inside and keeps a width."""
    if dimension.kind == "category":
        return np.asarray(np.maximum(found - found.max(), -5.0))
    return np.array([np.clip(found[0], 0, 1), np.clip(found[1], np.log(0.01), np.log(0.5))])
