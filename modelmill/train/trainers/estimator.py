"""Fitting of scikit-learn's estimators, and of all that look like them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from modelmill.contracts import Judge, Task, Trainer
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Estimator(Trainer):
    """Fit an estimator by its own `fit`, on the prepared features."""

    takes: ClassVar[frozenset[Kind]] = frozenset({"estimator"})

    class_weights: Literal["none", "balanced"] = "none"
    """"balanced" weighs rows of rare classes more, so that every class counts the same."""
    seconds: Annotated[float, Meta(ge=0)] = 0.0
    """How long fitting may take: a forest or a boosting that would take longer gets fewer trees; 0 is no limit."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Fit a copy of the model."""
        from modelmill.train.estimate import estimate

        return estimate(model, data, task, self.class_weights, seed, self.seconds)
