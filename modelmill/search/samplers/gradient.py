"""Walks downhill along the derivatives of the loss with respect to the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from modelmill.contracts import Pick, Sampler
from modelmill.errors import SpecError
from modelmill.history import History, Past, Suggestion
from modelmill.space import Dimension, Space

GROW, SHRINK = 1.2, 0.5
"""What becomes of a step when its derivative keeps its sign, and when it changes it (Riedmiller, Braun, 1993)."""

LEAST, MOST = 1e-3, 0.5
"""Steps, as shares of a range."""


class Gradient(Sampler):
    """Steps against the derivative of the loss on rows that neither train nor judge a candidate.

    Training reports the derivatives: of the learning rate by how the loss changed along its steps, of regularization by
    implicit differentiation. Every setting has a step of its own, which grows while the derivative keeps its sign and
    is halved when it changes. A worker that finds the last trial of a walk still running begins another, at random.
    Takes nothing but real ranges that training can differentiate; all others are refused by name.

    Baydin et al. (2018), https://arxiv.org/abs/1703.04782; Lorraine, Vicol, Duvenaud (2020), https://arxiv.org/abs/1911.02590
    """

    gradients: ClassVar[bool] = True

    step: Annotated[float, Meta(ge=1e-3, le=0.5)] = 0.15
    """The first step of every setting, as a share of its range."""
    patience: Annotated[int, Meta(ge=1)] = 8
    """Steps of a walk without a better trial, and it ends: the next one begins elsewhere."""

    def __call__(self, space: Space) -> Pick:
        """Picks along walks. Raises SpecError for a range without a derivative."""
        for dimension in space.dimensions:
            _check(dimension)

        def pick(history: History, seed: int) -> Suggestion:
            random = np.random.default_rng(seed)
            walks = self._walks(history)
            for number, walk in walks.items():
                last = walk[-1]
                if last.state == "done" and last.gradients and not self._tired(walk):
                    return self._next(space, number, walk)
            start = space.random(random)
            return Suggestion(start, {"walk": max(walks, default=-1) + 1})

        return pick

    def _walks(self, history: History) -> dict[int, list[Past]]:
        """The trials of every walk in their order; trials of other origin are walks that begin with them."""
        walks: dict[int, list[Past]] = {}
        for one in history:
            walks.setdefault(int(one.memo.get("walk", -1 - one.number)), []).append(one)
        return walks

    def _tired(self, walk: list[Past]) -> bool:
        losses = [one.losses[0] for one in walk if one.scored]
        return len(losses) > self.patience and min(losses[-self.patience :]) >= min(losses[: -self.patience])

    def _next(self, space: Space, number: int, walk: list[Past]) -> Suggestion:
        last = walk[-1]
        before = walk[-2] if len(walk) > 1 and walk[-2].gradients else None
        steps: dict[str, float] = dict(last.memo.get("steps", {}))
        settings = dict(last.settings)
        for dimension in space.met(last.settings):
            steps[dimension.name] = self._step(dimension.name, steps, last, before)
            way = -float(np.sign(last.gradients.get(dimension.name, 0.0)))
            settings[dimension.name] = dimension.at(
                dimension.unit(settings[dimension.name]) + way * steps[dimension.name]
            )
        return Suggestion(settings, {"walk": number, "from": last.number, "steps": steps})

    def _step(self, name: str, steps: Mapping[str, float], last: Past, before: Past | None) -> float:
        step = steps.get(name, self.step)
        if before is None:
            return step
        agreed = last.gradients.get(name, 0.0) * before.gradients.get(name, 0.0)
        return float(np.clip(step * (GROW if agreed > 0 else SHRINK if agreed < 0 else 1.0), LEAST, MOST))


def _check(dimension: Dimension) -> None:
    if dimension.kind != "real" or dimension.stride:
        what: Any = "options" if dimension.options else "whole numbers or steps"
        raise SpecError(
            dimension.name,
            f"the sampler gradient cannot differentiate a range of {what}",
            "Give it a fixed value, or take another sampler.",
        )
    if not dimension.differentiable:
        raise SpecError(
            dimension.name,
            "training cannot say how its loss changes with this setting, as the sampler gradient needs it",
            "Leave learning_rate, weight_decay or smoothing open and fix all else, or take another sampler.",
        )
