"""Gradient boosting on histograms, scikit-learn's: the strongest body for most tables."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from msgspec import Meta

from modelmill.contracts import Arch
from modelmill.model import Kind
from modelmill.signature import Signature


class Boosting(Arch):
    """Small trees, each fitted to what those before it got wrong; missing values are taken as they are.

    Friedman (2001), https://doi.org/10.1214/aos/1013203451; Ke et al. (2017) for the histograms,
    https://papers.nips.cc/paper/6907-lightgbm
    """

    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 0.1
    """How much of every tree's correction is taken."""
    iterations: Annotated[int, Meta(ge=1, le=10000)] = 100
    """Rounds of boosting; each adds one tree, or one a class."""
    leaves: Annotated[int, Meta(ge=2, le=4096)] = 31
    """Leaves of a tree, at most."""
    depth: Annotated[int, Meta(ge=0, le=64)] = 0
    """Questions on the way to a leaf, at most; 0 is no limit."""
    min_leaf: Annotated[int, Meta(ge=1)] = 20
    """Training rows that a leaf must hold."""
    l2: Annotated[float, Meta(ge=0)] = 0.0
    """How strongly large values of leaves are held back."""
    features: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Share of the features that a question is picked from."""
    balanced: bool = False
    """Whether rare classes weigh as much as frequent ones."""

    body: ClassVar[Kind] = "estimator"
    kinds: ClassVar[frozenset[str]] = frozenset({"table"})
    tasks: ClassVar[frozenset[str]] = frozenset({"classify", "regress"})

    def __call__(self, signature: Signature, features: tuple[int, ...], seed: int) -> Any:
        """An unfitted scikit-learn estimator."""
        from sklearn import ensemble

        settings: dict[str, Any] = {
            "learning_rate": self.learning_rate,
            "max_iter": self.iterations,
            "max_leaf_nodes": self.leaves,
            "max_depth": self.depth or None,
            "min_samples_leaf": self.min_leaf,
            "l2_regularization": self.l2,
            "max_features": self.features,
            "early_stopping": False,
            "random_state": seed,
        }
        if signature.task == "classify":
            weight = "balanced" if self.balanced else None
            return ensemble.HistGradientBoostingClassifier(**settings, class_weight=weight)
        return ensemble.HistGradientBoostingRegressor(**settings)
