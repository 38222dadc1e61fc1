"""Memory that large requests have left behind goes back to the machine."""

from __future__ import annotations

import subprocess
import sys
import weakref
from itertools import pairwise

import pytest

from modelmill.serve.ebb import CALM_S, EVERY_S, LONGEST_S, SHORT_MS, WORTH_BYTES, Ebb, _give_back, _recent
from modelmill.serve.engine.lane import Lane
from modelmill.serve.engine.pace import Pace

LEFT = """
from modelmill.runtime.memory import give_back, resident_bytes
kept = [b"x" * 100_000 for _ in range(1000)]
del kept[:-1]  # the last one lies above the others: without a word, the allocator keeps all
before = resident_bytes()
give_back()
print(before - resident_bytes())
"""


SHRUNK = """
import numpy as np
from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.runtime.memory import keep_apart, resident_bytes
from modelmill.runtime.session import Session
from modelmill.serve.models.endpoint import of
from modelmill.serve.engine.pace import Pace
from modelmill.signature import Field, Signature
from modelmill.version import Lineage, Version

keep_apart()
fields, outputs = (Field("x", "FP32", (-1, 100)),), (Field("y", "FP32", (-1, 100)),)
writer = Writer()
wide = writer.op("MatMul", ["x", writer.constant(np.ones((100, 2000), np.float32))])
writer.rename(writer.op("MatMul", [wide, writer.constant(np.ones((2000, 100), np.float32))]), "y")
session = Session(to_onnx(writer.fragment(), fields, outputs))
signature = Signature("compute", fields, outputs)
version = Version("wide", 1, 0, signature, Lineage(), {}, {})
endpoint = of(version, session, Pace(1.0, 1.0), lambda name, number: None)
for rows in (1, 8192):  # what the first run needs is kept for ever
    session.run({"x": np.zeros((rows, 100), np.float32)})
before = resident_bytes()
endpoint.shrink()
print(before - resident_bytes())
"""


class Sea:
    """What is resident, as a test sets it."""

    bytes = 100_000_000

    def __call__(self):
        return self.bytes


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_what_is_free_is_given_back():
    told = subprocess.run([sys.executable, "-c", LEFT], check=True, capture_output=True, text=True, timeout=60)
    assert int(told.stdout) > 90_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_a_model_lets_go_of_what_its_largest_run_needed():
    """8192 rows of 2000 numbers lie between, 65 MB."""
    told = subprocess.run([sys.executable, "-c", SHRUNK], check=True, capture_output=True, text=True, timeout=60)
    assert int(told.stdout) > 60_000_000


def test_memory_that_has_grown_is_given_back_once():
    sea = Sea()
    tide = Ebb(sea)
    assert not tide.is_due(100.0)
    sea.bytes += WORTH_BYTES
    assert tide.is_due(101.0)
    tide.given(101.0)  # nothing was free: all of it is in use
    assert not tide.is_due(120.0)


def test_a_low_tide_is_remembered():
    sea = Sea()
    tide = Ebb(sea)
    sea.bytes -= WORTH_BYTES
    assert not tide.is_due(100.0)
    sea.bytes += WORTH_BYTES
    assert tide.is_due(101.0)


def test_memory_that_is_needed_again_at_once_is_given_back_ever_more_seldom():
    sea = Sea()
    tide = Ebb(sea)
    given = []
    for second in range(3000):
        sea.bytes = 150_000_000
        if tide.is_due(float(second)):
            given.append(second)
            sea.bytes = 100_000_000
            tide.given(float(second))
    gaps = [after - before for before, after in pairwise(given)]
    assert gaps[0] == pytest.approx(EVERY_S, abs=1)
    assert gaps == sorted(gaps)
    assert gaps[-1] == pytest.approx(LONGEST_S, abs=1)
    assert len(given) < 3000 / LONGEST_S + 5
    calm = 3000 + 3 * LONGEST_S
    sea.bytes = 100_000_000
    assert tide.is_due(calm)  # once more, and from then on it is quick again
    tide.given(calm)
    sea.bytes = 150_000_000
    assert not tide.is_due(calm + 1)
    assert tide.is_due(calm + EVERY_S)


def test_what_took_long_is_not_done_again_soon():
    """The allocator took 72 ms, which those who asked it meanwhile had to wait."""
    sea = Sea()
    tide = Ebb(sea)
    sea.bytes += WORTH_BYTES
    assert tide.is_due(100.0)
    tide.given(100.0, took_s=0.072)
    sea.bytes += WORTH_BYTES
    assert not tide.is_due(170.0)
    assert tide.is_due(173.0)


def test_what_was_in_use_is_given_back_once_it_is_free():
    """A burst is under way when memory is given back: what it leaves does not grow, and is given back all the same."""
    sea = Sea()
    tide = Ebb(sea)
    sea.bytes = 200_000_000
    assert tide.is_due(100.0)
    tide.given(100.0)  # all in use
    assert not any(tide.is_due(100.0 + second) for second in range(1, int(LONGEST_S)))
    assert tide.is_due(100.0 + LONGEST_S)
    tide.given(100.0 + LONGEST_S)
    assert not tide.is_due(100.0 + 2 * LONGEST_S)
    assert tide.is_due(100.0 + LONGEST_S + CALM_S)


def test_a_model_that_is_let_go_of_is_not_held_for_this():
    held = [Shrunk() for _ in range(3)]
    refs = [weakref.ref(each) for each in held]
    held[0].then = held.clear  # the others are evicted while the first one shrinks
    _give_back(refs)
    assert [ref() for ref in refs[1:]] == [None, None]
    assert Shrunk.count == 1


class Shrunk:
    """A model that counts how often one shrank."""

    count = 0
    then = staticmethod(lambda: None)

    def shrink(self):
        Shrunk.count += 1
        self.then()


class At:
    """A model that was used at a time, and takes so long for a row."""

    def __init__(self, used, ms=1.0):
        self.used, self.lane = used, Lane(None, Pace(ms, 0.0), False)


def test_the_model_that_was_used_last_shrinks_first():
    held = dict(enumerate([At(900.0), At(990.0), At(950.0), At(100.0), At(999.0, SHORT_MS + 1)]))
    assert [each().used for each in _recent(held, 1000.0)] == [990.0, 950.0, 900.0]
