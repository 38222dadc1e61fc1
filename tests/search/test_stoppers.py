"""Stoppers give up what falls behind, on steps and on folds, with several objectives and with limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from test_search import Inline, study

from modelmill.contracts import Pick, Sampler, Stopper
from modelmill.history import Curve, History, Suggestion
from modelmill.method import find, names
from modelmill.search.ledger.ledger import Ledger
from modelmill.search.past import curve
from modelmill.search.search import search
from modelmill.search.standing import added, beaten, expected, ranked, stood
from modelmill.search.stoppers.front import Front
from modelmill.search.stoppers.halving import Halving
from modelmill.search.stoppers.hyperband import Hyperband
from modelmill.search.stoppers.median import Median
from modelmill.search.stoppers.patience import Patience
from modelmill.search.suggest import Suggester
from modelmill.space import Dimension, Space
from modelmill.spec import Budget, Goal
from modelmill.store.database import Database
from modelmill.trial import Point, Trial


def course(losses: list[tuple[float, ...]], number: int = 0, end: Any = None, misses: float = 0.0) -> Curve:
    """A course of steps in one fold; with `end` that of a finished trial."""
    at = [(0, step) for step in range(1, len(losses) + 1)] + ([(1, 0)] if end else [])
    rows = [*losses, *([end] if end else [])]
    done = end is not None
    return Curve(number, tuple(at), tuple(rows), (misses,) * len(rows), ended=done, kept=done and not misses)


PATIENT = Front(hope=1, startup=6, warmup=0.2)


def line(loss: float, steps: int = 9, cost: float | None = None, **more: Any) -> Curve:
    point = (loss,) if cost is None else (loss, cost)
    return course([point] * steps, **more)


def test_what_a_trial_had_reached_is_its_best_so_far_and_after_a_fold_that_of_all_folds() -> None:
    steps = course([(0.5,), (0.3,), (0.4,)], end=(0.2,))
    assert stood(steps, (0, 1)) == ((0.5,), 0.0)
    assert stood(steps, (0, 3)) == ((0.3,), 0.0)
    assert stood(steps, (0, 9)) == ((0.3,), 0.0), "it ended, and counts with what it had"
    assert stood(course([(0.5,)]), (0, 2)) is None, "it has not got there"
    assert stood(steps, (1, 0)) == ((0.2,), 0.0)
    assert stood(steps, (2, 0)) is None
    assert stood(course([(0.5, float("nan"))]), (0, 1)) is None


def test_standings_go_front_by_front_then_by_hypervolume_and_those_that_miss_limits_last() -> None:
    front = [(0.0, 2.0), (0.9, 1.1), (1.0, 1.0), (2.0, 0.0)]
    standings = [*((point, 0.0) for point in front), ((3.0, 3.0), 0.0), ((0.0, 0.0), 0.4), ((0.0, 0.0), 0.2)]
    order = ranked(standings)
    assert set(order[:4]) == {0, 1, 2, 3}
    assert order[4:] == [4, 6, 5]
    worth = added(front)
    assert order[:4] == sorted(range(4), key=lambda i: -worth[i])


def test_halving_lets_one_in_three_go_on_at_its_rungs_alone() -> None:
    there = [line(loss) for loss in (0.1, 0.2, 0.3, 0.4, 0.5)]
    stopper = Halving(least=2, factor=3, spare=False)
    assert not stopper(course([(0.9,)]), there)
    assert "number 6 of 6 at this rung, from which 2 go on" in stopper(course([(0.9,)] * 2), there)
    assert not stopper(course([(0.15,)] * 2), there)
    assert [step for step in range(1, 60) if stopper.rung(line(0.1, step))] == [2, 6, 18, 54]
    assert not stopper(course([(0.9,)] * 2), there[:1]), "two are too few to pick one in three"


def test_halving_has_rungs_on_folds() -> None:
    def folded(*losses: float) -> Curve:
        at = tuple((fold, 0) for fold in range(1, len(losses) + 1))
        return Curve(0, at, tuple((loss,) for loss in losses), (0.0,) * len(losses))

    there = [folded(0.1, 0.1, 0.1), folded(0.2, 0.2, 0.2), folded(0.3, 0.3, 0.3)]
    assert Halving()(folded(0.9), there)
    assert not Halving()(folded(0.9, 0.9), there)
    assert Halving()(folded(0.9, 0.9, 0.9), there)


SIZES = (1.0, 10.0, 100.0)


@pytest.mark.parametrize(
    "stopper",
    [Halving(least=1, factor=2), Median(warmup=1, startup=3), Front(startup=3, warmup=0.1), Patience(points=3)],
)
def test_a_small_weak_candidate_is_not_stopped_while_none_as_small_is_better(stopper: Stopper) -> None:
    others = [line(loss, cost=cost, end=(loss, cost)) for loss, cost in zip((0.3, 0.2, 0.1), SIZES, strict=True)] * 2
    for steps in range(1, 10):
        small = line(0.5, steps, cost=0.5)
        assert not stopper(small, others)
    stopped = [steps for steps in range(1, 10) if stopper(line(0.5, steps, cost=200.0), others)]
    assert stopped, "as weak and the largest of all"


def test_what_misses_its_limits_stands_behind_what_keeps_them() -> None:
    others = [line(0.5, end=(0.5,)) for _ in range(5)]
    over = line(0.1, 2, misses=0.3)
    assert Halving(factor=2)(over, others)
    assert not Halving(factor=2)(line(0.1, 2), others)


def test_front_grants_the_gains_that_others_made() -> None:
    late = [course([(0.9,)] * 5, end=(0.2,)) for _ in range(6)]
    assert not PATIENT(line(0.8, 5), late)
    flat = [course([(0.3,)] * 5, end=(0.2,)) for _ in range(6)]
    assert "would not reach the front" in PATIENT(line(0.8, 5), flat)
    assert not PATIENT(line(0.8, 5), flat[:5]), "too few have finished"
    assert PATIENT.hoped((0.8,), (0, 5), flat) == (pytest.approx(0.7),)


def test_front_grants_the_gain_of_few_or_of_most() -> None:
    gains = [course([(0.5,)] * 5, end=(0.5 - gain,)) for gain in (0.0, 0.1, 0.2, 0.3, 0.4)]
    assert Front(hope=0.5).hoped((0.6,), (0, 5), gains) == (pytest.approx(0.4),)
    assert Front(hope=1).hoped((0.6,), (0, 5), gains) == (pytest.approx(0.2),)
    assert not Front(hope=1)(line(0.45, 5), gains)
    assert Front(hope=0.5)(line(0.45, 5), gains)


def test_front_stops_none_in_the_first_part_of_a_training() -> None:
    finished = [line(0.3, 20, end=(0.2,)) for _ in range(6)]
    stopped = [step for step in range(1, 21) if Front(warmup=0.3)(line(0.9, step), finished)]
    assert stopped == list(range(6, 21))
    assert Front()(Curve(9, ((1, 0),), ((0.9,),), (0.0,)), finished), "the end of a fold comes after all of its steps"
    at_once = [Curve(i, ((1, 0),), ((0.2,),), (0.0,), ended=True, kept=True) for i in range(9)]
    assert not Front(warmup=0.3)(line(0.9, 5), [*at_once, *finished]), "what is fitted at once says nothing of steps"
    longer = [*finished, line(0.3, 500, end=(0.2,))]
    assert Front(warmup=0.3)(line(0.9, 6), longer), "one that takes long does not make all others wait"


def test_patience_gives_up_what_rests_behind_the_front_alone() -> None:
    finished = [line(0.2, end=(0.2,))]
    assert Patience(points=3)(course([(0.5,), (0.4,), (0.4,), (0.4,), (0.4,)]), finished)
    assert not Patience(points=3)(course([(0.5,), (0.4,), (0.4,), (0.4,), (0.39,)]), finished)
    assert not Patience(points=3)(course([(0.1,)] * 9), finished)


def test_hyperband_compares_within_brackets_that_start_later_one_after_the_other() -> None:
    stopper = Hyperband(least=1, factor=3, brackets=3)
    brackets = [stopper.bracket(number) for number in range(400)]
    counts = [brackets.count(i) for i in range(3)]
    assert counts[0] > counts[1] > counts[2] > 20
    first, last = brackets.index(0), brackets.index(2)
    others = [line(0.1, 30, number=number) for number in range(40)]
    assert "bracket 1" in stopper(line(0.9, 1, number=first), others)
    assert not stopper(line(0.9, 3, number=last), others)
    assert "bracket 3" in stopper(line(0.9, 9, number=last), others)


def test_a_curve_ends_with_what_came_out_and_leaves_out_what_retrains() -> None:
    goal = Goal(maximize=("accuracy",), minimize=("size_kb",))
    points = (*(Point(step, {"valid_accuracy": 0.1 * step}) for step in (1, 2, 3)), Point(1, {"valid_accuracy": 0.9}))
    running = Trial(0, "running", {}, curve=points, foreseen={"size_bytes": 500.0})
    assert curve(running, goal).at == ((0, 1), (0, 2), (0, 3))
    done = Trial(0, "done", {}, curve=points, metrics={"accuracy": 0.8}, costs={"size_bytes": 400.0})
    found = curve(done, goal)
    assert (found.at[-1], found.losses[-1]) == ((1, 0), (-0.8, 0.4))
    assert found.losses[0] == (pytest.approx(-0.1), 0.4)


def test_beaten_needs_one_that_is_nowhere_worse() -> None:
    assert beaten((1.0, 1.0), [(1.0, 0.5)])
    assert not beaten((1.0, 1.0), [(1.0, 1.0), (0.5, 1.5)])
    assert not beaten((1.0,), [])


@pytest.mark.parametrize("name", names("stopper"))
def test_every_stopper_lets_the_first_trial_finish_and_takes_unknown_costs(name: str) -> None:
    stopper = find("stopper", name)()
    unknown = course([(0.9, float("nan"))] * 12)
    assert not stopper(line(0.9, 12), [])
    assert not stopper(unknown, [line(0.1, 12, cost=1.0, end=(0.1, 1.0))] * 9)


def test_a_search_with_several_objectives_stops_what_is_beaten_before_it_is_trained_to_its_end(tmp_path: Path) -> None:
    def grow(payload: Mapping[str, Any]) -> Iterator[Any]:
        x = payload["settings"]["x"]
        bad = payload["number"] >= 5 and payload["number"] % 2
        yield {"costs": {"size_bytes": 1000.0 * (x + bad)}}
        for step in range(1, 9):
            yield {"step": step, "values": {"valid_accuracy": x - 0.6 * bad}, "work": step * 10.0}
        yield {"metrics": {"accuracy": x - 0.6 * bad}, "costs": {"size_bytes": 1000.0 * (x + bad)}, "work": 80.0}

    database = Database(f"sqlite:///{tmp_path}/a.db")
    goal = Goal(maximize=("accuracy",), minimize=("size_kb",))
    wanted = study(goal=goal, stopper=Median(warmup=1), budget=Budget(trials=12))
    ledger, _ = Ledger.open(database, "key", {})
    ended = [t for t in search(wanted, Inline(grow), lambda r: {}, lambda a: "", ledger) if t.state != "running"]
    assert [t.state for t in ended] == ["stopped" if t.number >= 5 and t.number % 2 else "done" for t in ended]
    stopped = next(t for t in ended if t.state == "stopped")
    assert (len(stopped.curve), stopped.work) == (2, 20.0)
    assert "stopped at step 2" in stopped.notes[0]
    database.close()


def test_a_stopped_trial_counts_with_what_finished_ones_gained_from_where_it_stood() -> None:
    finished = [course([(0.5 + i / 10, 10.0), (0.3, 10.0)], i, end=(0.2 + i / 10, 10.0)) for i in range(4)]
    stopped = course([(0.9, 7.0)], 9)
    assert expected(stopped, finished) == pytest.approx((0.6, 7.0))
    assert expected(stopped, finished[:2]) is None


def test_a_sampler_is_told_what_a_stopped_trial_would_have_come_to() -> None:
    heard: list[tuple[float, ...]] = []

    class Listening(Sampler):
        def __call__(self, space: Space) -> Pick:
            def pick(history: History, seed: int) -> Suggestion:
                heard[:] = [one.losses for one in history]
                return Suggestion({"x": len(history) / 100})

            return pick

    goal = Goal(maximize=("accuracy",))
    suggester = Suggester(lambda choose: choose(Dimension("x", high=1.0)), goal, Listening(), 0)
    for number in range(4):
        points = tuple(Point(step, {"valid_accuracy": 0.4 + step / 10}) for step in (1, 2))
        suggester.learn(Trial(number, "done", {"x": number / 9}, metrics={"accuracy": 0.6}, curve=points))
    suggester.learn(Trial(4, "stopped", {"x": 0.9}, curve=(Point(1, {"valid_accuracy": 0.3}),)))
    suggester.pick(5)
    assert heard[-1] == pytest.approx((-0.4,))
