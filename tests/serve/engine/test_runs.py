"""The engine over ONNX Runtime itself: runs are stopped in the middle, and sessions outlive that."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from modelmill.errors import DeadlineExceeded, ModelError
from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.runtime.session import Session, Stop
from modelmill.serve.engine.batch import Job, Run, cut
from modelmill.serve.engine.engine import Capacity, Engine
from modelmill.serve.engine.lane import Lane
from modelmill.serve.engine.pace import Pace
from modelmill.serve.engine.terms import Terms
from modelmill.signature import Field

WIDTH = 64
LONG = 200_000
"""Rows for which the graph below needs minutes."""


@pytest.fixture(scope="module")
def session():
    """Four hundred products of matrices, one after the other, whose result is the input again."""
    writer = Writer()
    x = "x"
    for _ in range(400):
        x = writer.op("MatMul", [x, writer.constant(np.eye(WIDTH, dtype=np.float32))])
    writer.rename(x, "y")
    fields = (Field("x", "FP32", (-1, WIDTH)),)
    return Session(to_onnx(writer.fragment(), fields, (Field("y", "FP32", (-1, WIDTH)),)))


def rows(count, seed=0):
    return {"x": np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)}


def test_a_run_tells_what_joining_running_and_taking_apart_took(session):
    job = Job(rows(2), 2, ("y",), None, None, None, None)
    cut(job, 1)
    clock = iter((0, 0, 3, 8, 17))  # as it is when the run begins, and before and after each phase
    run = Run(session, job.pieces, Stop(), 2, 1.0, {job}, clock.__next__)
    run.execute()
    assert run.phases_ns == (3, 5, 9)


def test_a_run_is_stopped_from_another_thread_and_the_session_goes_on(session):
    async def main():
        stop = Stop()
        run = asyncio.create_task(asyncio.to_thread(session.run, rows(LONG), None, stop))
        await asyncio.sleep(0.05)
        assert not run.done()
        stop.now()
        with pytest.raises(ModelError):
            await run

    asyncio.run(main())
    np.testing.assert_array_equal(session.run(rows(3))["y"], rows(3)["x"])


def alone(work):
    """Run `work(engine, lane)` on an engine of one thread whose lane cuts nothing."""

    async def main(session):
        engine = Engine(Capacity(threads=1))
        lane = Lane(session, Pace(1.0, 1e-5), True)
        try:
            await work(engine, lane)
        finally:
            engine.close()

    return main


def test_leaving_stops_the_run_in_the_middle(session):
    async def work(engine, lane):
        lane.batches = False
        long = engine.submit(lane, rows(LONG), LONG, ("y",))
        short = engine.submit(lane, rows(2), 2, ("y",))
        await asyncio.sleep(0.05)
        assert not long.done()
        long.cancel()
        answer = await asyncio.wait_for(short, 30)
        np.testing.assert_array_equal(answer["y"], rows(2)["x"])

    asyncio.run(alone(work)(session))


def test_the_deadline_holds_while_it_runs(session):
    async def work(engine, lane):
        lane.batches = False
        with pytest.raises(DeadlineExceeded):
            await engine.submit(lane, rows(LONG), LONG, ("y",), Terms(time.monotonic() + 0.1))
        answer = await asyncio.wait_for(engine.submit(lane, rows(2), 2, ("y",)), 30)
        np.testing.assert_array_equal(answer["y"], rows(2)["x"])

    asyncio.run(alone(work)(session))


def test_many_requests_of_all_sizes_at_once_get_their_own_rows(session, kept):
    async def work(engine, lane):
        lane = Lane(session, Pace(1.0, 1e-5), True, lambda: kept)
        engine.threads = 2
        sizes = [1, 2, 3, 50, 700, 20, 1, 1, 5, 3000, 2, 1] * 4
        futures = [engine.submit(lane, rows(size, seed), size, ("y",)) for seed, size in enumerate(sizes)]
        for seed, (size, future) in enumerate(zip(sizes, futures, strict=True)):
            answer = await asyncio.wait_for(future, 60)
            np.testing.assert_array_equal(answer["y"], rows(size, seed)["x"])
        assert sum(run[0] for run in kept.runs) == sum(sizes)

    asyncio.run(alone(work)(session))
