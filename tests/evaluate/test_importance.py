"""What mattered in a search is what moved the quality."""

from __future__ import annotations

import numpy as np
import pytest

from modelmill.evaluate.importance import importance
from modelmill.trial import Trial


def trials(count: int = 40) -> list[Trial]:
    """Quality hangs on the learning rate alone; the width is chance, the depth is there for half of the trials."""
    random = np.random.default_rng(0)
    found = []
    for number in range(count):
        rate, arch = float(random.uniform()), "mlp" if number % 2 else "tree"
        settings = {"arch": arch, "rate": rate, "width": int(random.integers(100))}
        if arch == "mlp":
            settings["depth"] = int(random.integers(3))
        found.append(Trial(number, "done", settings, metrics={"accuracy": round(rate, 1)}))
    return found


def test_the_setting_that_decides_comes_first() -> None:
    shares = importance(trials(), "accuracy")
    assert next(iter(shares)) == "rate"
    assert shares["rate"] > 0.8
    assert shares.get("width", 0) < 0.2


def test_the_order_of_trials_does_not_matter() -> None:
    assert importance(trials()[::-1], "accuracy") == pytest.approx(importance(trials(), "accuracy"))


def test_shares_lie_between_nothing_and_all() -> None:
    assert all(0 < share <= 1 for share in importance(trials(), "accuracy").values())


def test_nothing_is_said_of_few_trials_or_of_equal_ones() -> None:
    assert importance(trials(7), "accuracy") == {}
    same = [Trial(i, "done", {"width": i}, metrics={"accuracy": 0.5}) for i in range(20)]
    assert importance(same, "accuracy") == {}
    assert importance(trials(), "auroc") == {}
