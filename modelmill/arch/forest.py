"""A random forest: many trees, each grown on rows and features drawn by chance, averaged."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from msgspec import Meta

from modelmill.contracts import Arch
from modelmill.model import Kind
from modelmill.signature import Signature


class Forest(Arch):
    """The average of many deep trees that differ by chance; good untuned, large unless depth is limited.

    Breiman (2001), https://doi.org/10.1023/A:1010933404324; Geurts, Ernst and Wehenkel (2006) for `extra`,
    https://doi.org/10.1007/s10994-006-6226-1
    """

    trees: Annotated[int, Meta(ge=1, le=5000)] = 100
    """How many trees are averaged."""
    depth: Annotated[int, Meta(ge=0, le=64)] = 0
    """Questions on the way to a leaf, at most; 0 is no limit."""
    min_leaf: Annotated[int, Meta(ge=1)] = 1
    """Training rows that a leaf must hold."""
    features: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Share of the features that a question is picked from; 0 takes their square root in number (values: a third)."""
    extra: bool = False
    """Whether thresholds are drawn by chance as well (extremely randomized trees)."""
    balanced: bool = False
    """Whether rare classes weigh as much as frequent ones."""

    body: ClassVar[Kind] = "estimator"
    kinds: ClassVar[frozenset[str]] = frozenset({"table"})
    tasks: ClassVar[frozenset[str]] = frozenset({"classify", "regress"})

    def __call__(self, signature: Signature, features: tuple[int, ...], seed: int) -> Any:
        """An unfitted scikit-learn estimator."""
        from sklearn import ensemble

        settings: dict[str, Any] = {
            "n_estimators": self.trees,
            "max_depth": self.depth or None,
            "min_samples_leaf": self.min_leaf,
            "random_state": seed,
            "n_jobs": 1,
        }
        if signature.task == "classify":
            kind = ensemble.ExtraTreesClassifier if self.extra else ensemble.RandomForestClassifier
            weight = "balanced" if self.balanced else None
            return kind(**settings, max_features=self.features or "sqrt", class_weight=weight)
        regressor = ensemble.ExtraTreesRegressor if self.extra else ensemble.RandomForestRegressor
        return regressor(**settings, max_features=self.features or 1 / 3)
