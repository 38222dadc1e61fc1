"""Gradient boosting by LightGBM, an optional library: faster than scikit-learn's on large tables."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from msgspec import Meta

from modelmill.contracts import Arch
from modelmill.errors import MissingExtra
from modelmill.model import Kind
from modelmill.signature import Signature


class Lightgbm(Arch):
    """Small trees, each fitted to what those before it got wrong, grown leaf by leaf on histograms.

    Ke et al. (2017), https://papers.nips.cc/paper/6907-lightgbm
    """

    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 0.1
    """How much of every tree's correction is taken."""
    iterations: Annotated[int, Meta(ge=1, le=10000)] = 100
    """Rounds of boosting; each adds one tree, or one a class."""
    leaves: Annotated[int, Meta(ge=2, le=4096)] = 31
    """Leaves of a tree, at most."""
    min_leaf: Annotated[int, Meta(ge=1)] = 20
    """Training rows that a leaf must hold."""
    l2: Annotated[float, Meta(ge=0)] = 0.0
    """How strongly large values of leaves are held back."""
    features: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Share of the features that a tree is grown on."""
    rows: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Share of the rows that a tree is grown on."""
    balanced: bool = False
    """Whether rare classes weigh as much as frequent ones."""

    body: ClassVar[Kind] = "estimator"
    kinds: ClassVar[frozenset[str]] = frozenset({"table"})
    tasks: ClassVar[frozenset[str]] = frozenset({"classify", "regress"})

    def __call__(self, signature: Signature, features: tuple[int, ...], seed: int) -> Any:
        """An unfitted LightGBM estimator of scikit-learn's kind."""
        try:
            import lightgbm
        except ModuleNotFoundError as error:
            raise MissingExtra.of("arch.lightgbm", "lightgbm", "lightgbm") from error
        settings: dict[str, Any] = {
            "learning_rate": self.learning_rate,
            "n_estimators": self.iterations,
            "num_leaves": self.leaves,
            "min_child_samples": self.min_leaf,
            "reg_lambda": self.l2,
            "colsample_bytree": self.features,
            "subsample": self.rows,
            "subsample_freq": int(self.rows < 1),
            "random_state": seed,
            "n_jobs": 1,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }
        if signature.task == "classify":
            weight = "balanced" if self.balanced else None
            return lightgbm.LGBMClassifier(**settings, class_weight=weight)
        return lightgbm.LGBMRegressor(**settings)
