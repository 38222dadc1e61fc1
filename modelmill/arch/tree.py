"""One decision tree: small, fast, and readable."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from msgspec import Meta

from modelmill.contracts import Arch
from modelmill.model import Kind
from modelmill.signature import Signature


class Tree(Arch):
    """A tree of yes-no questions, one feature each.

    Breiman, Friedman, Olshen and Stone (1984), https://doi.org/10.1201/9781315139470
    """

    depth: Annotated[int, Meta(ge=0, le=64)] = 0
    """Questions on the way to a leaf, at most; 0 is no limit."""
    min_leaf: Annotated[int, Meta(ge=1)] = 1
    """Training rows that a leaf must hold."""
    prune: Annotated[float, Meta(ge=0)] = 0.0
    """Cost of a leaf: branches that gain less are cut (scikit-learn's `ccp_alpha`)."""
    balanced: bool = False
    """Whether rare classes weigh as much as frequent ones."""

    body: ClassVar[Kind] = "estimator"
    kinds: ClassVar[frozenset[str]] = frozenset({"table"})
    tasks: ClassVar[frozenset[str]] = frozenset({"classify", "regress"})

    def __call__(self, signature: Signature, features: tuple[int, ...], seed: int) -> Any:
        """An unfitted scikit-learn estimator."""
        from sklearn import tree

        depth = self.depth or None
        if signature.task == "classify":
            weight = "balanced" if self.balanced else None
            return tree.DecisionTreeClassifier(
                max_depth=depth,
                min_samples_leaf=self.min_leaf,
                ccp_alpha=self.prune,
                class_weight=weight,
                random_state=seed,
            )
        return tree.DecisionTreeRegressor(
            max_depth=depth, min_samples_leaf=self.min_leaf, ccp_alpha=self.prune, random_state=seed
        )
