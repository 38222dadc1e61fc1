"""What mattered in a search is what moved the quality."""

from __future__ import annotations

import numpy as np
import pytest

from modelmill.evaluate.importance import importance, interplay
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


def test_settings_that_were_picked_together_share_what_they_explain() -> None:
    found = importance(
        [
            Trial(number, "done", dict.fromkeys("abc", number % 8), metrics={"accuracy": number % 8 / 10})
            for number in range(40)
        ],
        "accuracy",
    )
    assert sum(found.values()) == pytest.approx(1, abs=1e-3)
    assert found["a"] == found["b"] == found["c"]


def test_nothing_is_said_of_few_trials_or_of_equal_ones() -> None:
    assert importance(trials(7), "accuracy") == {}
    same = [Trial(i, "done", {"width": i}, metrics={"accuracy": 0.5}) for i in range(20)]
    assert importance(same, "accuracy") == {}
    assert importance(trials(), "auroc") == {}


def test_a_cost_has_an_importance_of_its_own_by_its_logarithm() -> None:
    random = np.random.default_rng(0)
    wide = [int(2**k) for k in random.uniform(0, 10, 60)]
    found = [
        Trial(i, "done", {"width": w}, metrics={"accuracy": 0.9}, costs={"size_bytes": w}) for i, w in enumerate(wide)
    ]
    assert importance(found, "size_kb")["width"] > 0.8
    assert importance(found, "accuracy") == {}


def test_settings_that_count_only_together_are_found_as_a_pair() -> None:
    random = np.random.default_rng(0)
    found = []
    for number in range(80):
        a, b = (bool(random.integers(2)) for _ in range(2))
        settings = {"a": a, "b": b, "c": int(random.integers(3))}
        found.append(Trial(number, "done", settings, metrics={"accuracy": float(a == b) + 0.1 * a}))
    pairs = interplay(found, "accuracy", {"a": 0.1, "b": 0.1, "c": 0.1})
    assert [pair[:2] for pair in pairs] == [("a", "b")]
    assert pairs[0][2] > 0.9
    assert interplay(found[:20], "accuracy", {"a": 0.1, "b": 0.1}) == [], "too few to say"


def test_trials_that_were_stopped_tell_nothing_of_what_matters() -> None:
    stopped = [Trial(i, "stopped", {"width": i}, metrics={"accuracy": i / 20}) for i in range(20)]
    assert importance(stopped, "accuracy") == {}
