"""Who wins, who is nearest, and who is not beaten."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmill.search.pareto import (
    best,
    dominates,
    feasible,
    front,
    hypervolume,
    nearest,
    reached,
    value,
    violation,
)
from modelmill.spec import Goal
from modelmill.trial import Trial


def trial(number: int, accuracy: float, size: float = 1000, latency: float = 1.0, rps: float = 100.0) -> Trial:
    costs = {"size_bytes": size, "latency_ms": latency, "throughput_rps": rps}
    return Trial(number, "done", {}, metrics={"accuracy": accuracy}, costs=costs)


GOAL = Goal(maximize=("accuracy",), limit={"size_kb": 10, "latency_ms": 2})


def test_the_winner_keeps_the_limits_even_where_another_is_more_accurate() -> None:
    trials = [trial(0, 0.99, size=11_000), trial(1, 0.90, size=9_000), trial(2, 0.85)]
    assert best(trials, GOAL).number == 1  # type: ignore[union-attr]


def test_within_the_tolerance_the_fewest_bytes_win_and_then_the_latency() -> None:
    trials = [trial(0, 0.95, 9000), trial(1, 0.94, 3000, 1.5), trial(2, 0.94, 3000, 1.2), trial(3, 0.90, 100)]
    assert best(trials, GOAL, tolerance=0.0).number == 0  # type: ignore[union-attr]
    assert best(trials, GOAL, tolerance=0.02).number == 2  # type: ignore[union-attr]


def test_what_reaches_the_goal_wins_by_bytes_alone() -> None:
    goal = Goal(maximize=("accuracy",), reach={"accuracy": 0.9})
    trials = [trial(0, 0.99, 9000), trial(1, 0.91, 3000), trial(2, 0.89, 10)]
    assert best(trials, goal).number == 1  # type: ignore[union-attr]
    assert [reached(t, goal) for t in trials] == [True, True, False]


def test_a_limit_on_throughput_is_a_floor_and_an_unknown_cost_keeps_no_limit() -> None:
    goal = Goal(maximize=("accuracy",), limit={"throughput_rps": 200.0})
    assert violation(trial(0, 0.9, rps=100), goal) == {"throughput_rps": 0.5}
    assert feasible(trial(0, 0.9, rps=250), goal)
    assert violation(Trial(0, "done", {}), goal) == {"throughput_rps": math.inf}


def test_a_cost_can_be_the_objective() -> None:
    goal = Goal(minimize=("latency_ms",), limit={"size_kb": 10})
    assert best([trial(0, 0.9, latency=1.0), trial(1, 0.1, latency=0.5)], goal).number == 1  # type: ignore[union-attr]


def test_trials_that_are_not_done_never_win() -> None:
    assert best([Trial(0, "failed", {}), Trial(1, "stopped", {})], Goal(maximize=("accuracy",))) is None


def test_the_nearest_says_by_how_much_each_limit_is_missed() -> None:
    trials = [trial(0, 0.9, size=30_000), trial(1, 0.8, size=12_000, latency=2.5)]
    near, misses = nearest(trials, GOAL)  # type: ignore[misc]
    assert near.number == 1
    assert misses == {"size_kb": pytest.approx(2.0), "latency_ms": pytest.approx(0.5)}
    assert nearest([Trial(0, "failed", {})], GOAL) is None


def test_the_front_holds_the_unbeaten_trials_that_keep_the_limits() -> None:
    goal = Goal(maximize=("accuracy",))
    trials = [trial(0, 0.9, 900), trial(1, 0.8, 1000), trial(2, 0.8, 500), trial(3, 0.95, 2000)]
    assert [t.number for t in front(trials, goal)] == [0, 2, 3]


def test_size_in_kilobytes_follows_from_bytes() -> None:
    assert value(trial(0, 0.9, size=1500), "size_kb") == 1.5


def test_the_volume_of_two_boxes_counts_their_overlap_once() -> None:
    assert hypervolume([(0, 0, 1), (1, 1, 0)], reference=(2, 2, 2)) == 4 + 2 - 1


points = st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=6)


@given(points, st.tuples(*[st.integers(0, 5)] * 3))
def test_a_dominated_point_adds_no_volume_and_an_unbeaten_one_does(
    cloud: list[tuple[int, int, int]], new: tuple[int, int, int]
) -> None:
    before, after = hypervolume(cloud, (6, 6, 6)), hypervolume([*cloud, new], (6, 6, 6))
    covered = any(dominates(old, new) or old == new for old in cloud)
    assert after == before if covered else after > before
