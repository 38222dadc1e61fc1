"""Linear and logistic regression: the smallest body, and the measure for the others."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from modelmill.contracts import Arch
from modelmill.model import Kind
from modelmill.signature import Signature


class Linear(Arch):
    """Logistic regression for classes, ridge (or lasso, or both) for values.

    `strength` is scikit-learn's `alpha`; for classes it is `1 / C`.

    Hoerl and Kennard (1970), https://doi.org/10.1080/00401706.1970.10488634
    """

    strength: Annotated[float, Meta(gt=0)] = 1.0
    """How strongly large weights are held back."""
    penalty: Literal["ridge", "lasso", "elastic"] = "ridge"
    """Squared weights, absolute weights (which makes many of them zero), or half of each; classes take ridge alone."""
    iterations: Annotated[int, Meta(ge=1)] = 1000
    """At most so many steps of the solver."""
    balanced: bool = False
    """Whether rare classes weigh as much as frequent ones."""

    body: ClassVar[Kind] = "estimator"
    kinds: ClassVar[frozenset[str]] = frozenset({"table"})
    tasks: ClassVar[frozenset[str]] = frozenset({"classify", "regress"})

    def __call__(self, signature: Signature, features: tuple[int, ...], seed: int) -> Any:
        """An unfitted scikit-learn estimator."""
        from sklearn import linear_model

        if signature.task == "classify":
            weight = "balanced" if self.balanced else None
            return linear_model.LogisticRegression(
                C=1 / self.strength, max_iter=self.iterations, class_weight=weight, random_state=seed
            )
        if self.penalty == "ridge":
            return linear_model.Ridge(alpha=self.strength, random_state=seed)
        share = 1.0 if self.penalty == "lasso" else 0.5
        return linear_model.ElasticNet(alpha=self.strength, l1_ratio=share, max_iter=self.iterations, random_state=seed)
