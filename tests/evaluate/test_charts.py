"""Axes mark round values, and pictures keep every mark inside their frame."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmill.evaluate.charts.axes import HEIGHT, WIDTH, Axis, span
from modelmill.evaluate.charts.curves import Course, curves
from modelmill.evaluate.charts.errors import matrix
from modelmill.evaluate.charts.front import Mark, Side, best, front
from modelmill.evaluate.charts.parallel import MISSING, Rail, Thread, parallel
from modelmill.evaluate.charts.progress import Step, gained, progress

SIZE, ACCURACY = Side("size_kb", limit=50), Side("accuracy", more=True)

FINITE = st.floats(1e-6, 1e9)


@given(st.lists(FINITE, min_size=1, max_size=20), st.booleans())
def test_every_value_lies_on_its_axis(values: list[float], log: bool) -> None:
    axis = Axis(*span(values, log), 0, 100, log)
    for value in values:
        assert 0 <= axis.at(value) <= 100
    assert all(axis.low <= tick <= axis.high * 1.000001 for tick in axis.ticks())
    assert len(axis.ticks()) < 30


def test_whole_axes_mark_whole_numbers() -> None:
    assert Axis(0, 2, 0, 1, whole=True).ticks() == [0, 1, 2]


def test_a_logarithmic_axis_marks_ones_twos_and_fives() -> None:
    assert Axis(0.9, 60, 0, 1, log=True).ticks() == pytest.approx([1, 2, 5, 10, 20, 50])


def marks() -> list[Mark]:
    return [
        Mark(10.0, 0.9, 0, "small"),
        Mark(20.0, 0.95, 1, "winner", winner=True),
        Mark(30.0, 0.94, 1, "beaten"),
        Mark(90.0, 0.99, 1, "too large", kept=False),
        Mark(15.0, 0.1, 0, "hopeless"),
    ]


def test_the_front_holds_kept_marks_that_nothing_beats() -> None:
    assert [mark.tip for mark in best(marks(), SIZE, ACCURACY)] == ["small", "winner"]


def test_where_more_of_the_cost_is_better_the_front_turns() -> None:
    fast = [Mark(100.0, 0.8, 0, "fast"), Mark(10.0, 0.9, 0, "good"), Mark(5.0, 0.85, 0, "neither")]
    assert [mark.tip for mark in best(fast, Side("throughput_rps", more=True), ACCURACY)] == ["fast", "good"]


def test_all_marks_and_the_limits_of_both_sides_are_drawn_inside() -> None:
    drawn = ElementTree.fromstring(front(marks(), SIZE, Side("accuracy", more=True, limit=0.92)))
    circles = [circle for circle in drawn.iter("circle") if circle.get("class") != "halo"]
    assert len(circles) == 5
    for circle in circles:
        assert 0 < float(circle.get("cx")) < WIDTH
        assert 0 < float(circle.get("cy")) < HEIGHT
    assert {"limit 50 kB", "at least 0.92"} <= {text.text for text in drawn.iter("text")}
    assert sum(line.get("class") == "limit" for line in drawn.iter("line")) == 2


def test_marks_that_are_drawn_on_the_edge_are_told_of() -> None:
    def notes(drawn: str) -> set[str | None]:
        return {text.text for text in ElementTree.fromstring(drawn).iter("text") if "edge" in (text.text or "")}

    assert notes(front(marks(), SIZE, ACCURACY)) == {"1 on this edge lies further down"}
    assert notes(front(marks()[:-1], SIZE, ACCURACY)) == set()


def test_the_front_is_a_staircase_from_edge_to_edge() -> None:
    drawn = ElementTree.fromstring(front(marks(), SIZE, ACCURACY))
    corners = [tuple(map(float, pair.split(","))) for pair in drawn.find("polyline").get("points").split()]
    assert all(a[0] == b[0] or a[1] == b[1] for a, b in pairwise(corners)), "every step is level or upright"
    assert corners[0][1] == HEIGHT - 40, "the first rises from the axis"
    assert corners[-1][0] == WIDTH - 12, "the last goes on to the right"


def step(number: int, value: float | None, state: str = "done", kept: bool = True) -> Step:
    return Step(number, value, state, kept, 0, f"trial {number}")


def test_the_best_so_far_counts_only_those_that_keep_the_limits() -> None:
    drawn = ElementTree.fromstring(
        progress([step(0, 0.5), step(1, 0.9, kept=False), step(2, 0.7)], "accuracy", more=True)
    )
    ys = [float(point.split(",")[1]) for point in drawn.find("polyline").get("points").split()]
    heights = {circle.get("data-n"): float(circle.get("cy")) for circle in drawn.iter("circle")}
    assert (ys[0], min(ys)) == (heights["0"], heights["2"]), "it begins at 0.5 and ends at 0.7, below the mark at 0.9"


def test_a_history_tells_how_every_trial_ended() -> None:
    ended = [step(0, 0.5), step(1, 0.4, "stopped"), step(2, None, "failed"), step(3, None, "refused")]
    drawn = ElementTree.fromstring(progress([*ended, step(4, None, "stopped")], "accuracy", more=True))
    found = {path.get("data-n"): path.get("class") for path in drawn.iter("path")}
    assert {number: style.split()[1] for number, style in found.items()} == {
        "1": "stopped",
        "2": "failed",
        "3": "refused",
        "4": "stopped",
    }


@pytest.mark.parametrize("more", [True, False])
def test_a_history_without_a_single_value_is_still_drawn(more: bool) -> None:
    drawn = ElementTree.fromstring(progress([step(i, None, "failed") for i in range(5)], "rmse", more))
    assert sum(path.get("class") == "ended failed" for path in drawn.iter("path")) == 5
    assert drawn.find("polyline") is None


def test_the_volume_rises_in_steps() -> None:
    drawn = ElementTree.fromstring(gained([(0, 0.2), (3, 0.6)], last=9))
    assert [circle.find("title").text for circle in drawn.iter("circle")] == ["trial 0: 20 %", "trial 3: 60 %"]


def test_a_line_of_parallel_coordinates_passes_below_where_its_setting_is_missing() -> None:
    rails = [Rail("width", [8, None, 32]), Rail("arch", ["mlp", "tree", "mlp"]), Rail("size", [1, 2, 3], False, 2.5)]
    threads = [Thread(i, "thread", f"trial {i}") for i in range(3)]
    drawn = ElementTree.fromstring(parallel(rails, threads))
    ys = {
        line.get("data-n"): [float(point.split(",")[1]) for point in line.get("points").split()]
        for line in drawn.iter("polyline")
    }
    assert ys["1"][0] == MISSING
    assert ys["0"][0] > ys["2"][0], "wider lies higher"
    assert ys["0"][1] == ys["2"][1] != ys["1"][1], "equal choices meet"
    assert ys["0"][2] < ys["2"][2], "of a figure the better end lies above"
    assert sum(line.get("class") == "limit" for line in drawn.iter("line")) == 1


def test_parallel_coordinates_of_what_never_changes_are_drawn() -> None:
    drawn = ElementTree.fromstring(
        parallel(
            [Rail("width", [8, 8]), Rail("flag", [True, False])], [Thread(0, "thread", ""), Thread(1, "thread", "")]
        )
    )
    assert {"yes", "no"} <= {text.text for text in drawn.iter("text")}


def test_a_curve_that_is_not_a_number_somewhere_goes_on_behind_it() -> None:
    points = [(1.0, 0.5), (2.0, float("nan")), (3.0, 0.7)]
    drawn = ElementTree.fromstring(curves([Course("it", "second", points)], "accuracy"))
    assert len(drawn.find("polyline").get("points").split()) == 2


def test_a_stopped_curve_ends_with_a_mark_that_says_why() -> None:
    points = [(1.0, 0.5), (2.0, 0.6)]
    courses = [Course("trial 4", "faint", points, 4, "was stopped at step 2: too slow"), Course("it", "second", points)]
    drawn = ElementTree.fromstring(curves(courses, "accuracy", [(2.0, "fold 2")]))
    assert drawn.find("path/title").text == "trial 4 was stopped at step 2: too slow"
    assert sum(line.get("class") == "break" for line in drawn.iter("line")) == 1


def test_ticks_that_look_alike_get_more_digits() -> None:
    drawn = ElementTree.fromstring(
        front([Mark(1.0, 0.9420, 0, ""), Mark(2.0, 0.9440, 0, "")], Side("size_kb"), ACCURACY)
    )
    labels = [text.text for text in drawn.iter("text") if text.get("class") == "tick"]
    assert len(set(labels)) == len(labels)


def test_the_matrix_counts_and_tells() -> None:
    drawn = matrix(["a", "b"], [[5, 1], [0, 7]])
    assert "1 rows of a, said b" in drawn
    assert drawn.count('class="wrong"') == 1
    ElementTree.fromstring(drawn)
