"""How a search came on is told by what moved it on."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from modelmill.search.course import improvements, leaders, volumes, walked
from modelmill.search.pareto import front, hypervolume
from modelmill.spec import Goal
from modelmill.trial import Trial

BOTH = Goal(maximize=("accuracy",), minimize=("latency_ms",), limit={"latency_ms": 9})


def trial(number: int, accuracy: float, latency: float, **costs: float) -> Trial:
    return Trial(number, "done", {}, metrics={"accuracy": accuracy}, costs={"latency_ms": latency, **costs})


def test_the_volume_of_a_corner_by_pencil() -> None:
    """The box is 1.1 by 1.1; the best corner of both objectives fills it, each end of the front a strip of it."""
    ends = [trial(0, 0.9, 4.0), trial(1, 0.8, 2.0)]
    assert volumes(ends, BOTH) == [(0, round(0.11 / 1.21, 6)), (1, round(0.21 / 1.21, 6))]
    assert volumes([*ends, trial(2, 0.9, 2.0)], BOTH)[-1] == (2, pytest.approx(1.0))


def test_what_breaks_a_limit_or_was_beaten_moves_nothing_on() -> None:
    trials = [trial(0, 0.8, 3.0), trial(1, 0.99, 10.0), trial(2, 0.7, 4.0), trial(3, 0.8, 3.0), trial(4, 0.9, 4.0)]
    trials.append(Trial(5, "failed", {}, error="crashed"))
    assert improvements(trials, BOTH) == [0, 4]
    assert [number for number, _ in volumes(trials, BOTH)] == [0, 4]


def test_one_objective_or_four_have_no_volume_and_nothing_has_none() -> None:
    assert volumes([trial(0, 0.9, 1.0)], Goal(maximize=("accuracy",))) == []
    four = Goal(maximize=("accuracy",), minimize=("latency_ms", "size_kb", "macs"))
    assert volumes([trial(0, 0.9, 1.0, size_kb=1, macs=1)], four) == []
    assert volumes([Trial(0, "failed", {})], BOTH) == []


def test_an_objective_that_never_changes_leaves_the_others_to_count() -> None:
    found = volumes([trial(0, 0.9, 4.0), trial(1, 0.9, 2.0)], BOTH)
    assert found[-1] == (1, 1.0)


def test_the_volume_only_grows_and_is_what_the_front_dominates() -> None:
    random = np.random.default_rng(0)
    goal = Goal(maximize=("accuracy",), minimize=("latency_ms", "size_kb"))
    values = [(number, *map(float, random.uniform(1, 2, 3))) for number in range(60)]
    trials = [trial(number, a, b, size_kb=c) for number, a, b, c in values]
    found = [volume for _, volume in volumes(trials, goal)]
    assert found == sorted(found)
    losses = np.array([(-a, b, c) for _, a, b, c in values])
    scaled = (losses - losses.min(0)) / (losses.max(0) - losses.min(0))
    assert found[-1] == pytest.approx(hypervolume(map(tuple, scaled), (1.1,) * 3) / 1.1**3, abs=1e-5)


def test_the_front_of_many_is_the_front() -> None:
    random = np.random.default_rng(1)
    many = [trial(number, *map(float, random.uniform(1, 12, 2))) for number in range(170)]
    assert leaders(many, BOTH) == front(many, BOTH)


def test_chains_are_told_of_only_where_there_were_some() -> None:
    assert walked([trial(0, 0.9, 1.0)], BOTH) is None
    memo = {"anneal": {"chain": 0, "parent": None, "temperature": 1.0, "step": 0.1, "u": 0.5}}
    chained = replace(trial(0, 0.9, 1.0), settings={"width": 3}, memo={"member": "anneal", **memo})
    found = walked([chained], BOTH)
    assert found is not None
    assert (found.chains, found.numbers["width"].mean) == (1, 3.0)
