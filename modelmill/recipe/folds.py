"""How a trial's rows are cut for training and judging: a holdout, folds, or folds several times over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modelmill.contracts import Outputs
from modelmill.dataset import Dataset, Splits, concat
from modelmill.errors import OutOfBounds, UnknownName
from modelmill.metrics.score import interval, score

KEYS = (
    "sampler", "generator", "stopper", "folds", "repeats", "trial_seconds", "trial_memory_mb",
)  # fmt: skip
"""What the table `search` of a spec may hold."""


@dataclass(frozen=True)
class Plan:
    """How often rows are cut: `folds` parts, `repeats` times over; one fold is a holdout."""

    folds: int = 1
    repeats: int = 1

    @classmethod
    def of(cls, search: dict[str, Any]) -> Plan:
        """The plan of a spec's table `search`. Raises OutOfBounds or UnknownName for what it cannot hold."""
        for key in search:
            if key not in KEYS:
                raise UnknownName.among("search", "setting", key, KEYS)
        for key in ("folds", "repeats"):
            value = search.get(key, 1)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 100:
                raise OutOfBounds(f"search.{key} = {value!r}", "expected a whole number from 1 to 100", "Write 5.")
        for key in ("trial_seconds", "trial_memory_mb"):
            value = search.get(key, 0)
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
                said = f"search.{key} = {value!r}"
                raise OutOfBounds(said, "expected a number from 0 on", "Leave it out for no limit.")
        plan = cls(search.get("folds", 1), search.get("repeats", 1))
        if plan.repeats > 1 and plan.folds == 1:
            said = "a holdout is cut once, and only folds can be repeated"
            raise OutOfBounds(f"search.repeats = {plan.repeats}", said, "Write folds = 5 beside it.")
        return plan

    def cut(self, splits: Splits, seed: int) -> list[Splits]:
        """The splits themselves, or all ways to cut train and validation; the test set is the same in all."""
        if self.folds == 1:
            return [splits]
        whole = concat(splits.train, splits.valid)
        return [
            replace(splits, train=whole.take(side != i), valid=whole.take(side == i))
            for repeat in range(self.repeats)
            for side in [_sides(whole, self.folds, seed + repeat)]
            for i in range(self.folds)
        ]


def _sides(data: Dataset, folds: int, seed: int) -> np.ndarray[Any, Any]:
    """(rows,) the fold of each row, equal classes spread evenly, groups kept together."""
    order = np.random.default_rng(seed).permutation(data.rows)
    if data.groups is not None:
        _, ids = np.unique(data.groups.astype(str), return_inverse=True)
        return np.random.default_rng(seed).permutation(ids.max() + 1)[ids] % folds
    assert data.target is not None, "only data with a target is folded"
    by_target = order[np.argsort(data.target[order], kind="stable")]
    side = np.empty(data.rows, np.int64)
    side[by_target] = np.arange(data.rows) % folds
    return side


@dataclass(frozen=True)
class Marks:
    """What is scored, and over which classes."""

    metrics: Sequence[str]
    deciding: str
    classes: Sequence[Any]

    def so_far(self, outputs: Sequence[Outputs], valid: Sequence[Dataset]) -> dict[str, float]:
        """Every metric over the validation rows of the folds that are finished."""
        return score(self.metrics, *_together(outputs, valid), self.classes)

    def total(self, outputs: Sequence[Outputs], valid: Sequence[Dataset], folds: int, seed: int) -> dict[str, Any]:
        """Metrics over the rows of all folds together, and the standard error of the one that decides.

        Repeats are averaged: they see the same rows again, so that the error is that of one of them.
        """
        figures, spreads = [], []
        for start in range(0, len(outputs), folds):
            part = _together(outputs[start : start + folds], valid[start : start + folds])
            figures.append(score(self.metrics, *part, self.classes))
            low, high = interval(self.deciding, *part, self.classes, seed=seed)
            spreads.append((high - low) / (2 * 1.96))
        means = {name: float(np.mean([one[name] for one in figures])) for name in figures[0]}
        return {"metrics": means, "spread": float(np.mean(spreads))}


def _together(outputs: Sequence[Outputs], valid: Sequence[Dataset]) -> tuple[Outputs, np.ndarray[Any, Any]]:
    targets = np.concatenate([part.target for part in valid if part.target is not None])
    return {name: np.concatenate([part[name] for part in outputs]) for name in outputs[0]}, targets
