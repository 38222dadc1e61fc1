"""The mirror: a version that hangs is stopped, and holds nobody up."""

import asyncio
import threading
import time
from random import Random

import numpy as np
import pytest

from modelmill.errors import ModelError
from modelmill.runtime.session import Stop
from modelmill.serve.traffic import mirror
from modelmill.serve.traffic.meter import Meter
from modelmill.serve.traffic.mirror import Copy, Mirror
from modelmill.serve.traffic.pair import Pair
from modelmill.serve.traffic.verdict import Tolerances

COPY = Copy({"x": np.zeros((1, 2), np.float32)}, 1, ("y",))


class Idle:
    running, threads, waiting = 0, 1, 0


class Answering:
    def run(self, columns, outputs=None, stop=None):
        return {"y": np.zeros((1, 1), np.float32)}


class Hanging:
    """Runs until it is stopped."""

    def __init__(self):
        self.began = threading.Event()

    def run(self, columns, outputs=None, stop=None):
        self.began.set()
        while not stop.said:
            time.sleep(0.001)
        raise ModelError("the model", "was stopped", "")


class LiveFirst(Random):
    def random(self):
        return 0.0


def test_a_copy_that_hangs_is_stopped_and_speaks_against_the_candidate(monkeypatch):
    monkeypatch.setattr(mirror, "COPY_SECONDS", 0.05)

    async def pairs():
        mirrored = Mirror(Idle(), LiveFirst())
        found = asyncio.get_running_loop().create_future()
        mirrored.take(COPY, Answering(), Hanging(), 0.01, found.set_result)
        try:
            return await asyncio.wait_for(found, 30)
        finally:
            mirrored.close()

    pair = asyncio.run(pairs())
    assert (pair.live_failed, pair.candidate_failed) == (False, True)


def test_closing_stops_the_copy_that_runs_and_forgets_what_it_would_have_said():
    said = []

    async def close():
        mirrored, hanging = Mirror(Idle(), LiveFirst()), Hanging()
        for _ in range(2):
            mirrored.take(COPY, Answering(), hanging, 0.01, said.append)
        await asyncio.to_thread(hanging.began.wait, 30)
        mirrored.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return mirrored.waiting

    assert asyncio.run(asyncio.wait_for(close(), 60)) == 0
    assert said == []


@pytest.mark.parametrize(("short", "runs"), [(60.0, 2), (0.0, 1)])
def test_a_short_run_is_timed_when_it_is_warm(monkeypatch, short, runs):
    """The live version lies in the caches; the candidate's first run does not say how quick it is."""
    monkeypatch.setattr(mirror, "SHORT_SECONDS", short)

    class Counted(Answering):
        runs = 0

        def run(self, columns, outputs=None, stop=None):
            self.runs += 1
            return {"y": np.full((1, 1), self.runs, np.float32)}

    session = Counted()
    assert mirror.run(session, COPY, Stop()).outputs["y"] == runs
    assert session.runs == runs


def test_a_difference_of_chance_makes_no_version_slower():
    meter = Meter(Tolerances(), Random(0))
    for candidate_us in (280, 260, 320):
        meter.mirrored(Pair(False, False, 0.00025, candidate_us / 1e6))
    assert meter.looks["slower"] == [3, 0, 0]
    meter.mirrored(Pair(False, False, 0.00025, 0.0004))
    meter.mirrored(Pair(False, False, 0.0100, 0.0112))
    assert meter.looks["slower"] == [3, 2, 0]
