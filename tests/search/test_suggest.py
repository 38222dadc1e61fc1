"""Suggestions follow from history and seed; samplers keep to the space."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from modelmill.contracts import Sampler
from modelmill.errors import OutOfBounds
from modelmill.history import Curve
from modelmill.search.samplers.grid import Grid
from modelmill.search.samplers.random import Random
from modelmill.search.samplers.tpe import Tpe
from modelmill.search.stoppers.median import Median
from modelmill.search.suggest import Suggester
from modelmill.space import Choose, Dimension, Space
from modelmill.spec import Goal
from modelmill.trial import Trial

GOAL = Goal(maximize=("accuracy",), limit={"size_kb": 10})


def walk(choose: Choose) -> None:
    if choose(Dimension("arch", options=("line", "net"))) == "line":
        choose(Dimension("strength", low=0.001, high=10.0, log=True, default=1.0))
    else:
        choose(Dimension("width", low=4, high=65, log=True, integer=True))
        choose(Dimension("rate", low=0.0, high=1.0, step=0.3))
        choose(Dimension("steps", low=1, high=10, step=4, integer=True, default=2))


def small(choose: Choose) -> None:
    if choose(Dimension("arch", options=("line", "net"))) == "net":
        choose(Dimension("width", low=1, high=3, integer=True, step=1))


def score(number: int, settings: dict[str, Any]) -> Trial:
    accuracy = settings.get("rate", 0.2) + settings.get("width", 0) / 100
    costs = {"size_kb": float(settings.get("width", 1)) / 2}
    return Trial(number, "done", settings, metrics={"accuracy": accuracy}, costs=costs)


def play(suggester: Suggester, count: int, start: int = 0) -> Iterator[Trial]:
    for number in range(start, start + count):
        suggestion = suggester.pick(number)
        if suggestion is None:
            return
        trial = score(number, suggestion.settings)
        suggester.learn(trial)
        yield trial


@pytest.mark.parametrize("sampler", [Tpe(startup=3), Random(), Grid(points=3)])
def test_suggestions_go_on_from_a_history_as_if_they_had_not_been_interrupted(sampler: Sampler) -> None:
    whole = list(play(Suggester(walk, GOAL, sampler, seed=1), 12))
    resumed = Suggester(walk, GOAL, sampler, seed=1)
    for trial in whole[:7]:
        resumed.learn(trial)
    assert [*whole[:7], *play(resumed, 5, start=7)] == whole


def test_another_seed_suggests_something_else() -> None:
    one, two = (list(play(Suggester(walk, GOAL, Tpe(), seed), 3)) for seed in (1, 2))
    assert one != two


@pytest.mark.parametrize("sampler", [Tpe(startup=3), Random(), Grid(points=3)])
def test_every_suggestion_lies_in_the_space_of_its_branch(sampler: Sampler) -> None:
    for trial in play(Suggester(walk, GOAL, sampler, seed=3), 20):
        picked = trial.settings
        assert [dimension.name for dimension in Space(walk).met(picked)] == list(picked)
        if picked["arch"] == "line":
            assert 0.001 <= picked["strength"] <= 10
        else:
            assert isinstance(picked["width"], int)
            assert 4 <= picked["width"] <= 65
            assert round(picked["rate"], 9) in (0, 0.3, 0.6, 0.9)
            assert picked["steps"] in (1, 5, 9)


@pytest.mark.parametrize("sampler", [Grid(), Random(), Tpe(startup=2)])
def test_a_small_space_is_exhausted_with_each_cell_once(sampler: Sampler) -> None:
    tried = [trial.settings for trial in play(Suggester(small, GOAL, sampler, seed=0), 50)]
    assert len(tried) == 4
    assert sorted(map(str, tried)) == sorted(
        map(str, [{"arch": "line"}, *({"arch": "net", "width": width} for width in (1, 2, 3))])
    )


def test_openings_take_what_is_given_then_defaults_and_stay_inside() -> None:
    suggester = Suggester(walk, GOAL, Tpe(), seed=0)
    first = suggester.opening(0, {"arch": "line"})
    assert first is not None
    assert first.settings == {"arch": "line", "strength": 1.0}
    assert suggester.opening(1, {"arch": "line"}) is None
    opened = suggester.opening(2, {"arch": "net", "width": 999, "rate": 0.5})
    assert opened is not None
    assert opened.settings == {"arch": "net", "width": 65, "rate": pytest.approx(0.6), "steps": 1}


def test_tpe_moves_to_what_keeps_the_limit_and_is_good() -> None:
    def line(choose: Choose) -> None:
        choose(Dimension("x", low=0.0, high=1.0))

    late = 0
    for seed in (0, 1):
        suggester = Suggester(line, GOAL, Tpe(startup=8), seed)
        for number in range(40):
            suggestion = suggester.pick(number)
            assert suggestion is not None
            settings = suggestion.settings
            x = settings["x"]
            late += number >= 20 and 0.35 < x <= 0.5
            suggester.learn(Trial(number, "done", settings, metrics={"accuracy": x}, costs={"size_kb": 20 * x}))
    assert late > 12  # the best that keeps the limit is 0.5; by chance it were 6 of 40


def test_failed_and_refused_trials_are_avoided() -> None:
    def line(choose: Choose) -> None:
        choose(Dimension("x", low=0.0, high=1.0))

    suggester = Suggester(line, GOAL, Tpe(startup=8), seed=5)
    low = 0
    for number in range(40):
        suggestion = suggester.pick(number)
        assert suggestion is not None
        settings = suggestion.settings
        good = settings["x"] < 0.3
        low += good and number >= 20
        scored = Trial(number, "done", settings, metrics={"accuracy": 0.5}, costs={"size_kb": 1.0})
        suggester.learn(scored if good else Trial(number, "failed", settings, error="no"))
    assert low > 12  # by chance it were 6


def test_a_setting_out_of_bounds_is_refused() -> None:
    with pytest.raises(OutOfBounds, match=r"tpe\.startup"):
        Tpe(startup=0)


def line(*losses: float, kept: bool = True) -> Curve:
    at = tuple((0, step) for step in range(1, len(losses) + 1))
    return Curve(0, at, tuple((loss,) for loss in losses), (0.0,) * len(losses), ended=kept, kept=kept)


def test_no_trial_is_stopped_in_its_warm_up_or_before_enough_have_finished() -> None:
    good = [line(0.1, 0.1, 0.1)] * 5
    assert not Median(startup=6)(line(*[0.9] * 9), good)
    assert not Median(startup=5, warmup=3)(line(*[0.9] * 3), good)
    assert Median(startup=5, warmup=3)(line(*[0.9] * 4), good)
    assert not Median(startup=5, warmup=3)(line(0.9, 0.9, 0.9, 0.05), good)
    assert not Median(startup=5, warmup=3)(line(*[0.9] * 4), [line(0.1, 0.1, 0.1, kept=False)] * 5)
