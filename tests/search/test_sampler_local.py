"""Hill climbing and tabu: neighbours, steps that adapt, and new starts."""

from __future__ import annotations

import numpy as np
import pytest
from asking import asked, best, bowl, hard, mixed, numbers, one_loss, score, typical

from modelmill.errors import OutOfBounds
from modelmill.history import Past, Suggestion
from modelmill.search.samplers.local import Local, beside
from modelmill.search.samplers.random import Random
from modelmill.space import Choose, Dimension, Space


def end(number: int, suggestion: Suggestion) -> Past:
    return Past(number, suggestion.settings, "done", (bowl(suggestion.settings),), memo=suggestion.memo)


def test_values_beside_another_differ_from_it_and_lie_near() -> None:
    draw = np.random.default_rng(0)
    ordered = Dimension("batch", options=(64, 16, 32))
    assert {beside(ordered, 16, 1e-6, draw) for _ in range(20)} == {32}
    assert {beside(ordered, 32, 1e-6, draw) for _ in range(20)} == {16, 64}
    logs = Dimension("width", low=4, high=65, log=True, integer=True)
    assert {beside(logs, 8, 1e-6, draw) for _ in range(20)} <= {6, 7, 9, 10}
    near = [beside(Dimension("share", low=0.0, high=1.0), 0.0, 0.01, draw) for _ in range(50)]
    assert 0 < max(near) < 0.05


def test_a_step_grows_with_success_and_shrinks_with_failure() -> None:
    space = Space(numbers)
    at = {f"x{i}": 0.0 for i in range(4)}
    memo = {"local": {"climb": 0, "parent": 0, "step": 0.2}}
    start = Past(0, at, "done", (1.0,))
    for loss, step in ((0.5, 0.32), (2.0, 0.17)):
        picked = Local()(space)([start, Past(1, {**at, "x0": 1.0}, "done", (loss,), memo=memo)], 0)
        assert picked is not None
        assert picked.memo["local"]["step"] == pytest.approx(step)


def test_when_all_neighbours_are_known_the_next_best_is_left_though_it_is_worse() -> None:
    def line(choose: Choose) -> None:
        choose(Dimension("x", low=0, high=9, integer=True))

    history = [Past(i, {"x": x}, "done", (float(x),)) for i, x in enumerate((0, 1, 2))]
    picked = Local(step=1e-3, further=0.0)(Space(line))(history, 0)
    assert picked is not None
    assert picked.settings == {"x": 3}
    assert picked.memo["local"]["parent"] == 2


def test_a_climb_that_gets_no_further_is_left_for_another() -> None:
    history = asked(Local(patience=5), numbers, lambda n, s: Past(n, s.settings, "done", (1.0,), memo=s.memo), 20)
    assert [one.memo["local"]["parent"] is None for one in history].count(True) >= 3
    assert history[-1].memo["local"]["climb"] >= 2


def test_a_fresh_pick_suggests_what_one_that_followed_with_three_workers_does() -> None:
    asked(Local(), mixed, hard, 40, workers=3, fresh=True)


def test_a_bowl_is_descended_and_mixed_settings_become_better_than_by_chance() -> None:
    assert best(asked(Local(), numbers, end, 100)) < typical(Random(), numbers, bowl, 100) / 5
    assert best(asked(Local(), mixed, one_loss, 80)) < typical(Random(), mixed, score, 80) / 2


def test_a_patience_of_none_is_refused() -> None:
    with pytest.raises(OutOfBounds, match=r"local\.patience"):
        Local(patience=0)
