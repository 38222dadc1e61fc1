"""What a person sees while a search goes on: on a terminal, and in a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from modelmill.lines import sparkline, trial_line
from modelmill.mill import BEST
from modelmill.screen import Screen
from modelmill.spec import Goal
from modelmill.trial import Point, Trial

GOAL = Goal(maximize=("accuracy",), minimize=("latency_ms",), budget="40 trials")


def trial(number: int, accuracy: float, latency: float = 1.0, state: str = "done") -> Trial:
    metrics = {"accuracy": accuracy} if state == "done" else {}
    return Trial(number, state, {"arch": "mlp"}, metrics=metrics, costs={"latency_ms": latency})


def steps() -> Iterator[Trial]:
    yield replace(trial(0, 0.8), notes=(BEST,))
    yield replace(trial(1, 0.9, 2.0), notes=(BEST,))
    yield trial(2, 0.7, 3.0)
    yield replace(trial(3, 0, state="stopped"), notes=("stopped at step 4: it fell [behind]",))
    yield replace(trial(4, 0, state="failed"), error="crashed\ntraceback")
    yield replace(trial(5, 0, state="running"), curve=(Point(7, {"valid_loss": 0.25}, folds=2),))


def shown(goal: Goal | None = GOAL) -> list[str]:
    """The live lines after those steps."""
    screen = Screen(quiet=True, goal=goal)
    for step in steps():
        screen._trial(step)
    return screen._status()


def test_the_live_lines_say_how_far_it_is_and_what_stands_out() -> None:
    far, standing, best, line, running = shown()
    assert "5 of 40 trials · about" in far
    assert standing.strip() == "3 done · 1 stopped · 1 failed · 2 on the front"
    assert "best #1" in best
    assert "0.9000" in best
    assert sparkline([0.8, 0.9, 0.9, 0.9, 0.9]) in line
    assert "#5 fold 3 step 7 valid_loss 0.250" in running


def test_a_budget_in_seconds_is_shown_as_seconds() -> None:
    assert "of 90 s" in shown(Goal(maximize=("accuracy",), budget="90s"))[0]


def test_without_a_goal_nothing_is_said_of_a_front_nor_of_a_budget() -> None:
    far, standing, *_ = shown(None)
    assert "5 trials ended" in far
    assert "front" not in standing
    assert "front" not in "".join(shown(Goal()))


def test_a_stopped_trial_says_where_and_why_in_its_line() -> None:
    stopped = list(steps())[3]
    assert r"stopped at step 4: it fell \[behind]" in trial_line(stopped)
    assert "stopped: the budget ended" in trial_line(replace(stopped, notes=("the budget ended",)))


def test_where_there_is_no_terminal_a_line_now_and_then_says_how_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen(goal=GOAL) as screen:
        for number in range(50):
            screen._trial(replace(trial(number, 0.5), notes=(BEST,) if number == 3 else ()))
    lines = [line for line in capsys.readouterr().err.splitlines() if "on the front" in line]
    assert len(lines) == 2
    assert lines[1].startswith("50 done · 50 on the front · the best is #3")


def test_long_histories_keep_their_ends_in_a_sparkline() -> None:
    rising = sparkline(list(range(1000)))
    assert len(rising) == 32
    assert (rising[0], rising[-1]) == ("▁", "█")
    assert sparkline([]) == ""


def test_an_error_that_comes_again_is_told_once_and_so_is_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen(goal=GOAL) as screen:
        for number in range(4):
            screen._trial(replace(trial(number, 0, state="running"), notes=("gp: settings stand in the middle",)))
            screen._trial(replace(trial(number, 0, state="failed"), error="no such column"))
    told = capsys.readouterr().err
    assert told.count("no such column") == 1
    assert told.count("as #0 did") == 3
    assert told.count("settings stand in the middle") == 1
