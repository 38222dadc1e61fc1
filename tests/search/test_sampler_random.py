"""Random picks, and those of a Sobol sequence."""

from __future__ import annotations

import numpy as np
import pytest
from asking import asked, mixed, numbers, one_loss

from modelmill.errors import OutOfBounds
from modelmill.history import Past
from modelmill.search.samplers.random import BLOCK, Random, points
from modelmill.space import Space


def test_sixteen_points_of_a_sequence_lie_one_in_every_sixteenth_of_each_axis() -> None:
    found = points(5, scramble=3, block=0)[:16]
    assert all(sorted(np.floor(column * 16)) == list(range(16)) for column in found.T)


def test_the_second_block_goes_on_where_the_first_ended() -> None:
    joined = np.concatenate([points(2, 0, 0), points(2, 0, 1)])
    assert len(np.unique(joined, axis=0)) == 2 * BLOCK
    assert sorted(np.floor(joined[:, 0] * 2 * BLOCK)) == list(range(2 * BLOCK))


def test_a_sequence_follows_from_the_number_of_trials_and_its_scramble_alone() -> None:
    space = Space(mixed)
    one, two = Random(sequence="sobol")(space)([], 1), Random(sequence="sobol")(space)([], 2)
    other = Random(sequence="sobol", scramble=1)(space)([], 1)
    assert one is not None
    assert two is not None
    assert other is not None
    assert one.settings["share"] == two.settings["share"]
    assert one.settings["share"] != other.settings["share"]
    asked(Random(sequence="sobol"), mixed, one_loss, 20, workers=3, fresh=True)


def test_a_point_that_was_tried_is_replaced_by_an_independent_one() -> None:
    pick = Random(sequence="sobol")(Space(numbers))
    second = pick([Past(0, {"x0": 0.0, "x1": 0.0, "x2": 0.0, "x3": 0.0}, "running")], 1)
    assert second is not None
    again = pick([Past(0, second.settings, "running")], 1)
    assert again is not None
    assert again.settings != second.settings


def test_a_sequence_of_another_name_is_refused() -> None:
    with pytest.raises(OutOfBounds, match=r"random\.sequence"):
        Random(sequence="halton")  # type: ignore[arg-type]
