"""One thread a run, or all cores: what is measured decides, and what cannot be measured stays as it is."""

from __future__ import annotations

import threading

import numpy as np

from modelmill.errors import ModelError
from modelmill.serve.engine import width

COLUMNS = {"x": np.zeros((1, 1))}


class Counting:
    """Notes how many call it at a time."""

    def __init__(self):
        self.calls = 0
        self.now = 0
        self.most = 0
        self.lock = threading.Lock()

    def run(self, columns, outputs=None, stop=None):
        with self.lock:
            self.calls += 1
            self.now += 1
            self.most = max(self.most, self.now)
        with self.lock:
            self.now -= 1
        return {}


class Broken:
    def run(self, columns, outputs=None, stop=None):
        raise ModelError("model", "cannot run", "")


def test_short_and_unknown_models_and_single_cores_keep_one_thread_and_are_not_measured():
    narrow = Counting()
    for one_ms, cores in ((1.0, 4), (float("inf"), 4), (50.0, 1)):
        assert width.chosen(narrow, lambda threads: Broken(), COLUMNS, one_ms, cores) is narrow
    assert narrow.calls == 0


def test_a_session_that_cannot_be_made_wide_stays_narrow():
    narrow = Counting()
    assert width.chosen(narrow, lambda threads: Broken(), COLUMNS, 50.0, 4) is narrow


def test_both_are_run_alone_and_by_as_many_as_there_are_cores():
    narrow, wide = Counting(), Counting()
    asked = []
    found = width.chosen(narrow, lambda threads: asked.append(threads) or wide, COLUMNS, 50.0, 3)
    assert found in (narrow, wide)
    assert asked == [3]
    assert wide.calls - 1 == narrow.calls >= 2 * 8


def test_wide_needs_a_gain_for_one_and_may_not_cost_many():
    assert width.suits([1.5] * 3, [1.0] * 3)
    assert not width.suits([1.1] * 3, [1.0] * 3)
    assert not width.suits([1.9] * 3, [0.8] * 3)
    assert width.suits([0.2, 1.5, 1.6], [0.1, 0.99, 1.0])
