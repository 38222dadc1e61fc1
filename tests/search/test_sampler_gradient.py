"""The sampler that walks along derivatives."""

from __future__ import annotations

import math

import pytest

from modelmill.errors import SpecError
from modelmill.history import Past
from modelmill.search.samplers.gradient import Gradient
from modelmill.space import Choose, Dimension, Space


def walk(choose: Choose) -> None:
    choose(Dimension("rate", low=1e-4, high=1.0, log=True, differentiable=True))
    choose(Dimension("decay", low=0.0, high=1.0, differentiable=True))


def played(count: int, seed: int = 0) -> list[Past]:
    """Trials of a bowl whose bottom lies at rate 0.01, decay 0.3."""
    pick, history = Gradient()(Space(walk)), list[Past]()
    for number in range(count):
        found = pick(history, seed + number)
        assert found is not None
        rate, decay = math.log10(found.settings["rate"]) + 2, found.settings["decay"] - 0.3
        slopes = {"rate": 2 * rate / (found.settings["rate"] * math.log(10)), "decay": 8 * decay}
        loss = rate**2 + 4 * decay**2
        history.append(Past(number, found.settings, "done", (loss,), memo=found.memo, gradients=slopes))
    return history


@pytest.mark.parametrize("seed", [0, 100, 200])
def test_walks_find_the_bottom_of_a_bowl(seed: int) -> None:
    assert min(one.losses[0] for one in played(20, seed)) < 1e-3


def test_a_fresh_pick_goes_on_as_one_that_has_seen_all() -> None:
    history = played(9)
    assert Gradient()(Space(walk))(history[:8], 8).settings == history[8].settings  # type: ignore[union-attr]


def test_a_walk_whose_last_trial_runs_is_left_alone() -> None:
    history = played(4)
    busy = [*history[:3], Past(3, history[3].settings, "running", memo=history[3].memo)]
    found = Gradient()(Space(walk))(busy, 1)
    assert found is not None
    assert found.memo["walk"] > history[3].memo["walk"]


def test_a_walk_that_gets_no_better_ends_and_another_begins() -> None:
    walks = {one.memo["walk"] for one in played(60)}
    assert len(walks) > 1


@pytest.mark.parametrize(
    ("dimension", "words"),
    [
        (Dimension("arch", options=("mlp", "cnn")), "options"),
        (Dimension("width", low=1, high=9, integer=True), "whole numbers"),
        (Dimension("arch.mlp.dropout", low=0.0, high=0.5), "cannot say how its loss changes"),
    ],
)
def test_what_has_no_derivative_is_refused_by_name(dimension: Dimension, words: str) -> None:
    def bad(choose: Choose) -> None:
        walk(choose)
        choose(dimension)

    with pytest.raises(SpecError, match=words) as caught:
        Gradient()(Space(bad))
    assert dimension.name in str(caught.value)
