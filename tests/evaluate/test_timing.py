"""Models are timed in turns, and restless blocks are left out."""

from __future__ import annotations

import gc
import os

import numpy as np
import pytest

from modelmill.evaluate.costs.timing import Plan, Series, batch, calm, interleave, ratio, time_rows

PLAN = Plan(seconds=0.01, blocks=4, warmups=3, most_calls=5)


def test_every_model_has_its_turn_in_every_block() -> None:
    calls: list[str] = []
    series = interleave([lambda _: calls.append("a"), lambda _: calls.append("b")], PLAN)
    counted = calls[6:]
    turns = [counted[i] for i in range(len(counted)) if i == 0 or counted[i] != counted[i - 1]]
    assert [counted.count(name) for name in "ab"] == [20, 20], "five calls in each of four blocks"
    assert len(turns) >= 5, "the models take turns, not all of one and then all of the other"
    assert len(series[0].blocks_ms) == len(series[1].blocks_ms), "the same blocks are kept for all"


def test_calls_go_through_the_rows_in_order() -> None:
    seen: list[int] = []
    interleave([seen.append], Plan(seconds=0.01, blocks=2, warmups=2, most_calls=3))
    assert seen == [0, 1, 0, 1, 2, 0, 1, 2]


def test_blocks_in_which_the_baseline_drifts_are_left_out() -> None:
    assert calm(np.array([1.0, 1.04, 2.0, 0.97, 1.01])) == [0, 1, 3, 4]


def test_half_of_the_blocks_stay_however_restless_the_machine_is() -> None:
    assert len(calm(np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0]))) == 3


def test_the_ratio_is_of_blocks_that_were_shared() -> None:
    slow = np.array([1.0, 10.0, 1.0, 10.0])
    nothing = np.zeros(4)
    middle, low, high = ratio(Series(slow, slow / 2, nothing), Series(slow, slow, nothing))
    assert (middle, low, high) == (0.5, 0.5, 0.5), "what slows both at once does not change the ratio"


def test_rows_are_gone_through_again_where_there_are_too_few(rows) -> None:
    drawn = batch(rows, ["x"], 3, 4)["x"]
    assert np.array_equal(drawn, rows.columns["x"][[3, 4, 0, 1]])


def test_timing_leaves_the_process_as_it_was(dense, rows) -> None:
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    time_rows([dense(4)], rows, 1, Plan(seconds=0.01, blocks=8, warmups=2))
    assert gc.isenabled()
    assert not cores or os.sched_getaffinity(0) == cores


def test_a_call_that_fails_is_not_timed_away() -> None:
    def broken(number: int) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        interleave([broken], PLAN)
