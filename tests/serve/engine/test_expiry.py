"""Deadlines by one timer: each comes in its time, and nothing is kept of what has ended."""

from __future__ import annotations

from modelmill.errors import DeadlineExceeded
from modelmill.serve.engine.expiry import FEWEST


def test_deadlines_come_in_their_order_however_they_were_set(play):
    async def scene(stage):
        lane = stage.lane(row_ms=1.0, batches=False)
        stage.ask(lane, 0)
        futures = [stage.ask(lane, 1, within=within) for within in (0.9, 0.1, 0.5, 0.1, 2.0)]
        for ms, ended in ((50, 0), (60, 2), (300, 2), (200, 3), (500, 4), (1500, 5)):
            await stage.move(ms)
            assert sum(future.done() for future in futures) == ended
        assert all(isinstance(future.exception(), DeadlineExceeded) for future in futures)

    play(scene)


def test_of_requests_that_were_answered_long_before_their_deadline_little_is_kept(play):
    async def scene(stage):
        lane = stage.lane(row_ms=1.0)
        stage.free()
        for number in range(3 * FEWEST):
            await stage.until(stage.ask(lane, number, within=3600.0).done)
            assert len(stage.engine.expiries) <= FEWEST + 1

    play(scene)


def test_whoever_gives_up_is_out_of_the_queue_at_once(play):
    async def scene(stage):
        lane = stage.lane(row_ms=20.0, batches=False)
        stage.ask(lane, 0)
        waits = stage.ask(lane, 1, within=60.0)
        assert stage.engine.waiting == 1
        waits.cancel()
        assert stage.engine.waiting == 0
        assert not waits.cancel()

    play(scene)
