"""An engine whose time stands still until a test moves it, over models whose runs end when a test says so."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest

from modelmill.errors import ModelError
from modelmill.serve.engine.engine import Capacity, Engine
from modelmill.serve.engine.lane import HOP_MS, Lane
from modelmill.serve.engine.pace import Pace
from modelmill.serve.engine.terms import Terms

BAD = -13
PATIENCE_S = 4.0


class Still(asyncio.SelectorEventLoop):
    """A loop with hands that are moved."""

    now_ns = 1_000_000_000

    def time(self):
        return self.now_ns / 1e9


class Echo:
    """A model that gives its input back, once its run is let go; it keeps the first column of every run."""

    def __init__(self, gated=True):
        self.gated = gated
        self.gates = {}
        """What lets a run go, by its stop."""
        self.runs = []

    def run(self, columns, outputs=None, stop=None):
        x = columns["x"]
        gate = threading.Event()
        self.runs.append(x.reshape(len(x), -1)[:, 0].tolist() if len(x) else [])
        self.gates.setdefault(stop, gate)
        while self.gated and not gate.wait(0.001):
            if stop is not None and stop.said:
                raise ModelError("model", "was stopped", "")
        if (x == BAD).any():
            raise ModelError("model", "cannot run this", "")
        return dict.fromkeys(outputs or ("y",), x)


class Kept:
    """A meter that keeps what it is told."""

    def __init__(self):
        self.runs = []
        self.waits = []
        self.rows = []

    def ran(self, *run):
        self.runs.append(run)

    def waited(self, ns, rows):
        self.waits.append(ns)
        self.rows.append(rows)


@pytest.fixture
def kept():
    return Kept()


class Stage:
    """One engine on a still loop. Everything a test does to it goes by here."""

    def __init__(self, loop, threads=1, **limits):
        self.loop = loop
        self.engine = Engine(Capacity(threads=threads, **limits), ns=lambda: loop.now_ns)
        self.models = []

    @property
    def now(self):
        return self.loop.time()

    def lane(self, start_ms=0.0, row_ms=20.0, batches=True, **settings):
        """A lane over a model of its own, whose pace is so."""
        model = Echo()
        self.models.append(model)
        return Lane(model, Pace(start_ms, row_ms), batches, **settings)

    def ask(self, lane, *values, priority=0, within=None, payer="", share=1.0, width=1):
        """Submit rows of these values; a future."""
        deadline = float("inf") if within is None else self.now + within
        x = np.repeat(np.array(values, float)[:, None], width, axis=1)
        return self.engine.submit(lane, {"x": x}, len(values), ("y",), Terms(deadline, priority, payer, share))

    async def until(self, check):
        """Let the loop turn until something holds."""
        end = time.monotonic() + PATIENCE_S
        while not check():
            assert time.monotonic() < end, "it never came to be"
            time.sleep(0)  # lets the engine's threads have the interpreter
            await asyncio.sleep(0)

    def has_begun(self):
        """Whether every thread has taken up a run, as long as there are runs."""
        runs = self.engine.runs
        return sum(run.stop in run.session.gates for run in runs) >= min(len(runs), self.engine.threads)

    async def move(self, ms):
        """Let time pass, without anything that runs coming to its end."""
        await self.until(self.has_begun)
        self.loop.now_ns += round(ms * 1e6)
        for _ in range(4):
            await asyncio.sleep(0)

    async def let(self, model, ms=0.0):
        """Let time pass, and the oldest run of a model end."""
        await self.until(self.has_begun)
        run = min((run for run in self.engine.runs if run.stop in model.gates), key=lambda run: run.began_ns)
        self.loop.now_ns += round(ms * 1e6)
        model.gates[run.stop].set()
        await self.until(lambda: run not in self.engine.runs)
        await asyncio.sleep(0)

    async def work(self, ms=None):
        """Let every run end, one after the other, each after the time that its lane says, or after `ms`."""
        while self.engine.running or self.engine.waiting:
            if not self.engine.running:  # it waits for company, which does not come
                await self.move(1.0)
                continue
            await self.until(self.has_begun)
            run = min(self.engine.runs, key=lambda run: run.began_ns)
            await self.let(run.session, run.expected_ms - HOP_MS if ms is None else ms)

    def free(self):
        """Let every run end, now and later."""
        for model in self.models:
            model.gated = False
            for gate in list(model.gates.values()):
                gate.set()


@pytest.fixture(scope="session")
def play():
    """Runs `scene(stage)` to its end, and checks that nothing is left over."""

    def call(scene, threads=1, **limits):
        loop = Still()

        async def main():
            stage = Stage(loop, threads, **limits)
            try:
                found = await scene(stage)
                stage.free()
                await stage.until(lambda: not stage.engine.running or stage.engine.waiting)
                return found
            finally:
                stage.free()
                stage.engine.close()

        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(main())

    return call
