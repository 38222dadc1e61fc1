"""The incremental grid: group after group, around the best, each cell once, until nothing improves."""

from __future__ import annotations

import numpy as np
import pytest
from asking import asked, best, hard, mixed, one_loss, score

from modelmill.errors import SpecError, UnknownName
from modelmill.history import Past, Suggestion
from modelmill.search.samplers.grid_incremental import GridIncremental
from modelmill.space import Choose, Dimension, Settings, Space


def board(choose: Choose) -> None:
    for name in "abc":
        choose(Dimension(name, low=0, high=4, integer=True, step=1))


def hill(number: int, suggestion: Suggestion) -> Past:
    """Best at 4, 1, 3; b is worth changing only where a is 4."""
    a, b, c = suggestion.settings.values()
    return Past(number, suggestion.settings, "done", (2 * abs(a - 4) + abs(b - 1) * (a == 4) + abs(c - 3.0),))


def noted(number: int, suggestion: Suggestion) -> Past:
    return Past(number, suggestion.settings, "done", hill(number, suggestion).losses, memo=suggestion.memo)


def cells(history: list[Past]) -> list[tuple[int, ...]]:
    return [tuple(one.settings.values()) for one in history]


def test_one_setting_after_the_other_is_swept_around_the_best_and_none_twice() -> None:
    history = asked(GridIncremental(), board, noted, 99)
    assert cells(history)[:5] == [(a, 2, 2) for a in range(5)]
    assert cells(history)[5:9] == [(4, b, 2) for b in (0, 1, 3, 4)]
    assert cells(history)[9:13] == [(4, 1, c) for c in (0, 1, 3, 4)]
    assert cells(history)[13:17] == [(a, 1, 3) for a in range(4)]
    assert len(set(cells(history))) == len(history) == 5 + 4 + 4 + 4 + 4
    assert best(history) == 0


def test_groups_are_swept_together() -> None:
    history = asked(GridIncremental(groups=(("c", "a"),)), board, noted, 99)
    assert len({(a, c) for a, b, c in cells(history)[:25] if b == 2}) == 25
    assert {b for _, b, _ in cells(history)[25:29]} == {0, 1, 3, 4}
    assert len(history) == 25 + 4 + 24


@pytest.mark.parametrize("workers", [2, 5])
def test_several_workers_share_the_cells_and_end_at_the_best(workers: int) -> None:
    history = asked(GridIncremental(), board, noted, 125, workers=workers, seed=workers)
    assert len(set(cells(history))) == len(history) < 21 + 10 * workers
    assert best(history) == 0


def test_a_fresh_pick_suggests_what_one_that_followed_with_three_workers_does() -> None:
    openings: list[Settings] = [{"rate": 0.1, "share": 0.5, "steps": 0.0, "width": 9, "batch": 32, "body": "line"}]
    history = asked(GridIncremental(points=3), mixed, hard, 30, workers=3, openings=openings, fresh=True)
    assert len({str(sorted(one.settings.items())) for one in history}) == 30


def test_branches_are_opened_and_swept() -> None:
    history = asked(GridIncremental(), mixed, one_loss, 200)
    end = min(history, key=lambda one: one.losses)
    assert end.settings["body"] == "net"
    assert end.settings["turn"] == "tanh"
    assert 2 <= end.settings["depth"] <= 4
    assert best(history) < 0.3


def test_a_search_in_which_all_fail_still_ends() -> None:
    history = asked(GridIncremental(), board, lambda n, s: Past(n, s.settings, "failed", memo=s.memo), 99)
    assert len(history) == 13


def test_what_is_not_a_range_and_what_stands_twice_is_refused_by_name() -> None:
    with pytest.raises(UnknownName, match=r"grid_incremental\.groups: no range named 'd'"):
        GridIncremental(groups=(("a", "d"),))(Space(board))
    with pytest.raises(SpecError, match="'a' stands in two groups"):
        GridIncremental(groups=(("a",), ("a", "b")))(Space(board))


def test_the_function_of_the_mixed_space_is_lowest_where_it_says() -> None:
    ideal = {"rate": 0.01, "share": 0.7, "steps": 0.3, "width": 16, "batch": 16, "body": "net", "depth": 3}
    assert score({**ideal, "turn": "tanh"}) == pytest.approx(0, abs=1e-12)
    assert np.isclose(score({**ideal, "turn": "relu"}), 0.3)
