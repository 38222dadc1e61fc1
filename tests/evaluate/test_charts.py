"""Axes mark round values, and pictures keep every mark inside their frame."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmill.evaluate.charts.axes import HEIGHT, WIDTH, Axis, span
from modelmill.evaluate.charts.curves import curves, progress
from modelmill.evaluate.charts.errors import matrix
from modelmill.evaluate.charts.front import Mark, Scale, best, front

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
    assert [mark.tip for mark in best(marks(), Scale("size_kb", "accuracy"))] == ["small", "winner"]


def test_where_more_of_the_cost_is_better_the_front_turns() -> None:
    fast = [Mark(100.0, 0.8, 0, "fast"), Mark(10.0, 0.9, 0, "good"), Mark(5.0, 0.85, 0, "neither")]
    assert [mark.tip for mark in best(fast, Scale("throughput_rps", "accuracy", floor=True))] == ["fast", "good"]


def test_all_marks_and_the_limit_are_drawn_inside() -> None:
    drawn = ElementTree.fromstring(front(marks(), Scale("size_kb", "accuracy", limit=50)))
    circles = [circle for circle in drawn.iter("circle") if circle.get("class") != "halo"]
    assert len(circles) == 5
    for circle in circles:
        assert 0 < float(circle.get("cx")) < WIDTH
        assert 0 < float(circle.get("cy")) < HEIGHT
    assert "limit 50 kB" in [text.text for text in drawn.iter("text")]


def test_the_best_so_far_counts_only_those_that_keep_the_limits() -> None:
    values = [(0, 0.5, True, ""), (1, 0.9, False, ""), (2, 0.7, True, "")]
    drawn = ElementTree.fromstring(progress(values, "accuracy", True))
    ys = [float(point.split(",")[1]) for point in drawn.find("polyline").get("points").split()]
    assert len(ys) == 3
    heights = {circle.get("cx"): float(circle.get("cy")) for circle in drawn.iter("circle")}
    assert min(ys) == sorted(heights.values())[1], "the line ends at 0.7, below the mark at 0.9"


def test_a_curve_that_is_not_a_number_somewhere_goes_on_behind_it() -> None:
    points = [(1.0, 0.5), (2.0, float("nan")), (3.0, 0.7)]
    drawn = ElementTree.fromstring(curves([("it", "second", points)], "accuracy"))
    assert len(drawn.find("polyline").get("points").split()) == 2


def test_the_matrix_counts_and_tells() -> None:
    drawn = matrix(["a", "b"], [[5, 1], [0, 7]])
    assert "1 rows of a, said b" in drawn
    assert drawn.count('class="wrong"') == 1
    ElementTree.fromstring(drawn)
