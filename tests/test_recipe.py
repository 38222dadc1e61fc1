"""The steps of the recipe: what is refused before training, what limits say, how the winner is ranked."""

import numpy as np
import pytest

from modelmill.ask import request
from modelmill.recipe.grow import Job, fold, lookup, refuse, smallest_share, worker
from modelmill.recipe.look import look, plain
from modelmill.recipe.make import enough_epochs, limits, ranked, tolerance
from modelmill.signature import NO_DATE
from modelmill.space import Dimension
from modelmill.spec import Goal
from modelmill.trial import Point, Trial


@pytest.fixture(scope="module")
def digits():
    return look(request("digits", seed=1)).job


def with_limit(job, **limit):
    import msgspec

    goal = msgspec.structs.replace(job.spec.goal, limit=limit)
    return Job(msgspec.structs.replace(job.spec, goal=goal), job.splits, job.signature, job.task)


def test_a_candidate_that_cannot_fit_is_refused_before_training(digits):
    picks = {"arch": "cnn", "arch.cnn.width": 24, "arch.cnn.depth": 3}
    assert refuse(with_limit(digits, size_kb=500), picks)[0] == ""
    assert "size_kb" in refuse(with_limit(digits, size_kb=5), picks)[0]
    assert "latency_ms" in refuse(with_limit(digits, latency_ms=1e-4), picks)[0]
    (result,) = worker(with_limit(digits, size_kb=5))({"settings": picks, "seed": 0, "seconds": None})
    assert "untrained graph" in result["refused"]
    assert result["costs"]["size_kb"] > 5


def test_a_step_that_shrinks_gives_the_candidate_its_chance(digits):
    job = with_limit(digits, size_kb=20)
    picks = {"arch": "cnn", "arch.cnn.width": 16}
    assert refuse(job, picks)[0]
    assert refuse(job, {**picks, "compress.quantize.static": True})[0] == ""


def test_the_share_that_steps_can_leave_is_a_bound():
    assert smallest_share([]) == 1
    assert smallest_share([{"method": "quantize.static"}]) == 0.25
    assert smallest_share([{"method": "prune.magnitude", "ratio": 0.5}, {"method": "quantize.static"}]) == 0.0625


def test_folds_part_the_rows_and_leave_the_test_set_alone(digits):
    folds = fold(digits.splits, 5, seed=0)
    whole = digits.splits.train.rows + digits.splits.valid.rows
    assert sum(part.valid.rows for part in folds) == whole
    assert all(part.train.rows + part.valid.rows == whole for part in folds)
    assert all(part.test is digits.splits.test for part in folds)
    counts = np.array([np.bincount(part.valid.target, minlength=10) for part in folds])
    assert (counts.max(0) - counts.min(0)).max() <= 1


def test_settings_that_are_missing_take_their_default():
    choose = lookup({"a": 3})
    assert choose(Dimension("a", low=1, high=9)) == 3
    assert choose(Dimension("b", low=1, high=9, default=5)) == 5
    assert choose(Dimension("c", options=("x", "y"))) == "x"


def test_limits_are_ceilings_and_floors():
    found = limits(
        {"size_kb": 50, "throughput_rps": 100, "accuracy": 0.9, "rmse": 2},
        {"size_bytes": 50_001, "throughput_rps": 99, "accuracy": 0.95, "rmse": 1},
    )
    assert {name: limit.kept for name, limit in found.items()} == {
        "size_kb": False, "throughput_rps": False, "accuracy": True, "rmse": True,
    }  # fmt: skip
    assert found["size_kb"].value == 50.001


def trial(number, accuracy, size, spread=0.0):
    return Trial(number, "done", {}, metrics={"accuracy": accuracy}, costs={"size_bytes": size}, spread=spread)


def test_without_limits_one_standard_error_buys_bytes():
    trials = [trial(0, 0.95, 900, 0.01), trial(1, 0.945, 100, 0.01), trial(2, 0.93, 10, 0.01)]
    goal = Goal(maximize=("accuracy",))
    assert [t.number for t in ranked(trials, goal)] == [1, 0, 2]
    assert tolerance(trials, goal) == 0.01


def test_with_limits_quality_decides_among_those_that_keep_them():
    trials = [trial(0, 0.95, 900, 0.01), trial(1, 0.949, 100, 0.01), trial(2, 0.99, 2000)]
    goal = Goal(maximize=("accuracy",), limit={"size_kb": 1})
    assert [t.number for t in ranked(trials, goal)] == [0, 1]


def test_a_network_made_anew_stops_where_its_trial_was_best():
    def ended(best):
        return Trial(0, "done", {}, curve=(Point(1, {"valid_loss": 1.0}), Point(20, {"best_epoch": best})))

    assert enough_epochs(ended(3.0)) == 3
    assert enough_epochs(ended(19.0)) == 0
    assert enough_epochs(Trial(0, "done", {})) == 0


@pytest.mark.parametrize(
    ("value", "kind", "json"),
    [
        (np.float32("nan"), "number", None),
        (np.int64(NO_DATE), "date", None),
        (np.int64(86_400_000), "date", "1970-01-02T00:00:00"),
        ("", "category", None),
        (np.bool_(True), "boolean", True),
        (np.zeros((1, 2), np.uint8), "image", [[0, 0]]),
    ],
)
def test_examples_are_json_values(value, kind, json):
    assert plain(value, kind) == json


def test_times_decide_nothing_where_the_goal_names_none():
    slow, quick = trial(0, 0.95, 100), trial(1, 0.95, 100)
    slow.costs["latency_ms"], quick.costs["latency_ms"] = 2.0, 1.0
    assert [t.number for t in ranked([slow, quick], Goal(maximize=("accuracy",)))] == [0, 1]
