"""Distillation into a linear model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from msgspec import Meta

from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Logistic(Compressor):
    """Fit logistic regression to the model's probabilities, ridge regression to its values.

    Bucila, Caruana & Niculescu-Mizil (2006), https://doi.org/10.1145/1150402.1150464
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network", "estimator", "graph"})
    gives: ClassVar[Kind | None] = "estimator"

    strength: Annotated[float, Meta(gt=0)] = 1.0
    """How strongly large weights are held back."""
    share: Annotated[float, Meta(ge=0, le=1)] = 0.7
    """The weight of what the model says; the rest goes to the truth."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Fit the linear model; the model itself is left as found."""
        from modelmill.compress.distill.anew import prepared
        from modelmill.compress.distill.cheap import fit, linear, tabular
        from modelmill.compress.distill.labels import targets
        from modelmill.runtime.features import features

        yield Progress(0, 1, note=f"a linear model takes the place of the {model.body.kind}")
        labels = targets(model, data.train, task, self.share)
        base = prepared(model, data.train, "table")
        inputs = features(base.part, model.signature, data.train)
        estimator = linear(self.strength, bool(model.signature.classes), seed)
        said = fit(estimator, inputs, labels, data.train.weights)
        arch = {"method": "linear", "strength": self.strength}
        note = f"distill.logistic: {estimator.coef_.size} weights"
        result = tabular(base, inputs.shape[1:]).with_body(estimator, "estimator", note, arch)
        yield Progress(1, 1, {"weights": float(estimator.coef_.size)}, said, result)
