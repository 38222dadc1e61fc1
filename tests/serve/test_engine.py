"""The engine: what waits is batched, who leaves is dropped, too many are refused."""

from __future__ import annotations

import asyncio
import threading
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmill.errors import ModelError, Overloaded
from modelmill.serve.engine import batch
from modelmill.serve.engine.batch import Job
from modelmill.serve.engine.engine import Capacity, Engine, Lane, Pace

SLOW = Pace(10.0, 1.0)


class Doubling:
    """A model that doubles, once its gate is open; it notes the rows of every run."""

    def __init__(self):
        self.gate = threading.Event()
        self.runs = []

    def run(self, columns, outputs=None):
        self.gate.wait(10)
        x = columns["x"]
        if (x == 13).any():
            raise ModelError("model", "cannot run 13", "")
        self.runs.append(len(x))
        return dict.fromkeys(outputs or ("y",), x * 2)


def job(*values, future=None):
    return Job({"x": np.array(values)}, len(values), ("y",), future or asyncio.Future(loop=asyncio.new_event_loop()))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_batches_keep_the_order_and_every_row(sizes, most):
    loop = asyncio.new_event_loop()
    try:
        jobs = [Job({"x": np.full(size, n)}, size, ("y",), loop.create_future()) for n, size in enumerate(sizes)]
        waiting = deque(jobs)
        while waiting:
            taken = batch.take(waiting, most)
            assert len(taken) == 1 or sum(one.rows for one in taken) <= most
            answers = batch.split({"y": batch.join(taken)["x"]}, taken)
            for one, answer in zip(taken, answers, strict=True):
                assert answer["y"].tolist() == [jobs.index(one)] * one.rows
    finally:
        loop.close()


def test_only_jobs_of_one_shape_share_a_batch():
    loop = asyncio.new_event_loop()
    jobs = [Job({"x": np.zeros((1, width))}, 1, ("y",), loop.create_future()) for width in (3, 3, 4)]
    assert len(batch.take(deque(jobs), 64)) == 2
    loop.close()


def scenario(work, capacity=Capacity(threads=1, waiting=4)):  # noqa: B008 - frozen
    """Run `work(engine, lane, model)` on a loop, with an engine of one thread."""
    model = Doubling()
    lane = Lane(model, SLOW, True, lambda rows: None)

    async def main():
        engine = Engine(capacity)
        try:
            return await work(engine, lane, model)
        finally:
            model.gate.set()
            await asyncio.sleep(0)
            engine.close()

    return asyncio.run(main())


def ask(engine, lane, *values):
    return engine.submit(lane, {"x": np.array(values)}, len(values), ("y",))


def test_what_waits_while_the_engine_is_busy_is_one_batch():
    async def work(engine, lane, model):
        futures = [ask(engine, lane, n, n) for n in range(4)]
        assert engine.waiting == 3
        model.gate.set()
        return [(await future)["y"].tolist() for future in futures], model.runs

    answers, runs = scenario(work)
    assert answers == [[0, 0], [2, 2], [4, 4], [6, 6]]
    assert runs == [2, 6]


def test_one_bad_request_spoils_no_other_of_its_batch():
    async def work(engine, lane, model):
        futures = [ask(engine, lane, n) for n in (1, 2, 13, 3)]
        model.gate.set()
        return await asyncio.gather(*futures, return_exceptions=True)

    first, second, bad, third = scenario(work)
    assert [first["y"][0], second["y"][0], third["y"][0]] == [2, 4, 6]
    assert isinstance(bad, ModelError)


def test_who_leaves_is_not_run():
    async def work(engine, lane, model):
        first, second, third = (ask(engine, lane, n) for n in range(3))
        second.cancel()
        model.gate.set()
        await first
        await third
        return model.runs

    assert scenario(work) == [1, 1]


def test_too_many_waiting_are_refused():
    async def work(engine, lane, model):
        futures = [ask(engine, lane, n) for n in range(5)]
        with pytest.raises(Overloaded, match="4 requests wait"):
            ask(engine, lane, 9)
        model.gate.set()
        await asyncio.gather(*futures)

    scenario(work)


def test_models_take_turns():
    order = []

    class Noting(Doubling):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def run(self, columns, outputs=None):
            order.append(self.name)
            return super().run(columns, outputs)

    async def work(engine, lane, model):
        lanes = [Lane(Noting(name), SLOW, False, lambda rows: None) for name in "ab"]
        for one in lanes:
            one.session.gate.set()
        blocked = ask(engine, lane, 0)
        futures = [ask(engine, lanes[0], 1), ask(engine, lanes[0], 2), ask(engine, lanes[1], 3)]
        model.gate.set()
        await asyncio.gather(blocked, *futures)

    scenario(work)
    assert order == ["a", "b", "a"]


def test_only_what_is_cheap_runs_on_the_loop():
    async def work(engine, lane, model):
        cheap = Lane(model, Pace(0.05, 0.01), True, lambda rows: None)
        return engine.fits_inline(cheap, 1), engine.fits_inline(cheap, 100), engine.fits_inline(lane, 1)

    assert scenario(work) == (True, False, False)
