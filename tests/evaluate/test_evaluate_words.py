"""A training and a contest are put in words that are true."""

from __future__ import annotations

from modelmill.evaluate.words import figure, why_lost, words
from modelmill.spec import Goal
from modelmill.trial import Point, Trial

GOAL = Goal(maximize=("accuracy",), limit={"size_kb": 50})


def curve(*losses: float) -> list[Point]:
    return [Point(i + 1, {"valid_loss": loss}) for i, loss in enumerate(losses)]


def trial(number: int, accuracy: float, size_kb: float = 10, **rest) -> Trial:
    return Trial(number, "done", {}, metrics={"accuracy": accuracy}, costs={"size_kb": size_kb}, **rest)


def why(*trials: Trial, winner: int = 0) -> dict[int, str]:
    return {row["trial"]: row["why"] for row in why_lost(trials, GOAL, winner)}


def test_a_better_one_over_a_limit_lost_by_the_limit() -> None:
    assert why(trial(0, 0.9), trial(1, 0.99, 71.25))[1] == "size 71.2 kB is over the limit of 50 kB"


def test_a_worse_one_lost_by_quality() -> None:
    assert why(trial(0, 0.98), trial(1, 0.96))[1] == "accuracy 0.02 lower"


def test_one_as_good_within_the_noise_lost_by_size() -> None:
    said = why(trial(0, 0.98, spread=0.01), trial(1, 0.975, 30), trial(2, 0.985, 20))
    assert said[1] == "as good within the noise, but 3.0 times larger"
    assert said[2] == "accuracy 0.005 better, within the noise, but 2.0 times larger"


def test_with_several_objectives_it_is_said_what_the_better_of_one_costs() -> None:
    goal = Goal(maximize=("accuracy",), minimize=("size_kb",))
    trials = [trial(0, 0.98, 20, spread=0.01), trial(1, 0.97, 5), trial(2, 0.97, 30), trial(3, 0.98, 20)]
    said = {row["trial"]: row["why"] for row in why_lost(trials, goal, 0)}
    assert said == {
        1: "size 15 lower, but accuracy 0.01 lower",
        2: "accuracy 0.01 lower and size 10 higher",
        3: "as good, and no smaller",
    }


def test_trials_that_did_not_finish_say_why() -> None:
    said = why(
        trial(0, 0.9),
        Trial(1, "failed", {}, error="grew over 2 GB\ntraceback"),
        Trial(2, "stopped", {}, curve=tuple(curve(1.0, 0.9)), notes=("adam", "stopped at step 2: behind the others.")),
        Trial(3, "refused", {}, notes=("its graph has 90 kB untrained.",)),
        Trial(4, "running", {}),
        Trial(5, "refused", {}, error="it needs 90 kB"),
        Trial(6, "stopped", {}, curve=tuple(curve(1.0)), notes=("the budget ended",)),
    )
    assert said == {
        1: "failed: grew over 2 GB",
        2: "stopped at step 2: behind the others",
        3: "refused before training: its graph has 90 kB untrained",
        5: "refused before training: it needs 90 kB",
        6: "stopped at step 1: the budget ended",
    }


def test_a_throughput_below_its_floor_is_a_miss() -> None:
    slow = Trial(1, "done", {}, metrics={"accuracy": 0.9}, costs={"throughput_rps": 10})
    goal = Goal(maximize=("accuracy",), limit={"throughput_rps": 100})
    assert why_lost([slow], goal, 0)[0]["why"] == "throughput 10 rows/s is below the floor of 100 rows/s"


def test_figures_have_the_digits_that_a_person_reads() -> None:
    assert [figure(x) for x in (0.5, 0.99999, 31.412, 1.714, 1e-7, float("nan"))] == [
        "0.5",
        "0.99999",
        "31.4",
        "1.71",
        "1.0e-07",
        "not defined",
    ]
    assert words("throughput_rps") == "throughput"
