"""Sub-regions: one at a time, chosen under a model, wider after success."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from asking import asked, best, bowl, hard, mixed, numbers, typical

from modelmill.errors import OutOfBounds
from modelmill.history import Past, Suggestion
from modelmill.search.samplers.random import Random
from modelmill.search.samplers.subregion import Subregion
from modelmill.search.surrogate.encode import Encoding
from modelmill.space import Space


def end(number: int, suggestion: Suggestion) -> Past:
    return Past(number, suggestion.settings, "done", (bowl(suggestion.settings),), memo=suggestion.memo)


def test_every_region_has_its_trials_and_they_lie_in_it() -> None:
    encoding = Encoding(Space(numbers))
    history = asked(Subregion(startup=6, trials=4), numbers, end, 18)
    assert [one.memo["subregion"]["region"] for one in history[6:]] == [0] * 4 + [1] * 4 + [2] * 4
    for one in history[6:]:
        region, code = one.memo["subregion"], encoding.row(one.settings)
        assert (np.array(region["low"]) - 1e-9 <= code).all()
        assert (code <= np.array(region["high"]) + 1e-9).all()


def test_regions_become_wider_after_success_and_narrower_after_failure() -> None:
    history = asked(Subregion(startup=3, trials=1), numbers, end, 14)
    widths = [one.memo["subregion"]["width"] for one in history[3:]]
    for i, (now, then) in enumerate(pairwise(widths)):
        won = history[3 + i].losses[0] == min(one.losses[0] for one in history[: 4 + i])
        assert then == pytest.approx(min(now * 1.5, 1.0) if won else now * 0.7)


def test_a_fresh_pick_suggests_what_one_that_followed_with_three_workers_does() -> None:
    asked(Subregion(startup=6, trials=4), mixed, hard, 16, workers=3, fresh=True)


def test_a_bowl_is_descended_far_below_what_chance_finds() -> None:
    assert best(asked(Subregion(), numbers, end, 36)) < typical(Random(), numbers, bowl, 36) / 3


def test_a_region_without_width_is_refused() -> None:
    with pytest.raises(OutOfBounds, match=r"subregion\.width"):
        Subregion(width=0)
