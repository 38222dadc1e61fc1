"""Whose turn it is: shares by weight, priorities and deadlines within them, and nobody waits for ever."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from modelmill.errors import DeadlineExceeded, Overloaded
from modelmill.serve.engine.shares import TURN


def order(model):
    """The values in the order in which they ran, but for the first, which held the thread."""
    return [value for run in model.runs[1:] for value in run]


async def filled(stage, lane, asked):
    """Submit while the only thread is held; then let all run."""
    stage.ask(lane, -1)
    for value, settings_of in asked:
        stage.ask(lane, value, **settings_of)
    await stage.work()
    return order(lane.session)


waits = st.lists(
    st.tuples(st.sampled_from([0, 1, 2, 3]), st.one_of(st.none(), st.integers(100, 900))), min_size=1, max_size=TURN - 2
)


@settings(max_examples=60, deadline=None)
@given(asked=waits)
def test_the_earliest_deadline_is_first_within_a_priority_and_the_default_is_last(play, asked):
    async def scene(stage):
        lane = stage.lane(0.0, 20.0)
        stage.ask(lane, -1)
        taken = []
        for value, (priority, within) in enumerate(asked):
            try:
                stage.ask(lane, value, priority=priority, within=None if within is None else within / 1000)
            except (Overloaded, DeadlineExceeded):
                continue
            taken.append((priority or 99, within if within is not None else 1000, value))
        await stage.work(ms=0.001)  # all meet their deadlines, so that only the order counts
        assert order(lane.session) == [value for *_, value in sorted(taken)]

    play(scene)


def test_a_flood_of_urgent_requests_starves_nobody(play):
    async def scene(stage):
        lane = stage.lane(0.0, 20.0)
        patient = stage.ask(lane, -1) and stage.ask(lane, 1000)
        for turn in range(3 * TURN):
            stage.ask(lane, turn, priority=1)
            stage.ask(lane, turn, priority=1)
            await stage.let(lane.session, 20.0)
            if patient.done():
                break
        assert patient.done()
        assert turn <= TURN + 1
        await stage.work()

    play(scene)


def test_what_has_no_deadline_is_not_overtaken_for_ever(play):
    async def scene(stage):
        lane = stage.lane(0.0, 20.0)
        stage.ask(lane, -1)
        patient = stage.ask(lane, 1000)
        for turn in range(200):
            stage.ask(lane, turn, within=0.5)
            await stage.let(lane.session, 20.0)
            if patient.done():
                break
        assert patient.done()
        assert stage.now < 1.0 + 1.2
        await stage.work()

    play(scene)


@settings(max_examples=60, deadline=None)
@given(
    weights=st.tuples(st.sampled_from([1.0, 2.0, 5.0]), st.sampled_from([1.0, 3.0])),
    sizes=st.lists(st.integers(1, 4), min_size=30, max_size=30),
    lanes=st.booleans(),
)
def test_payers_get_their_shares_in_rows_at_what_they_cost(play, weights, sizes, lanes):
    """While both have work, what they got differs, over their weights, by no more than two of the largest requests."""

    async def scene(stage):
        one = stage.lane(0.0, 20.0, batches=False)
        other = stage.lane(0.0, 20.0, batches=False) if lanes else one
        stage.ask(one, -1, payer="third")
        for value, rows in enumerate(sizes):
            payer = value % 2
            stage.ask((one, other)[payer], *([payer] * rows), payer="ab"[payer], share=weights[payer])
        got = [0.0, 0.0]
        left = [sum(sizes[0::2]), sum(sizes[1::2])]
        await stage.let(one.session, 20.0)
        bound = 2 * max(sizes) * sum(1 / weight for weight in weights)
        while stage.engine.running:
            (run,) = stage.engine.runs
            payer = int(run.pieces[0].columns["x"][0, 0])
            await stage.let(run.session, run.rows * 20.0)
            got[payer] += run.rows
            left[payer] -= run.rows
            if min(left) > 0:
                assert abs(got[0] / weights[0] - got[1] / weights[1]) <= bound

    play(scene)


def test_one_payer_alone_gets_everything_and_saves_nothing_up(play):
    async def scene(stage):
        lane = stage.lane(0.0, 20.0)
        stage.ask(lane, -1, payer="a")
        for n in range(10):
            stage.ask(lane, n, payer="a")
        for _ in range(6):
            await stage.let(lane.session, 20.0)
        for n in range(100, 105):
            stage.ask(lane, n, payer="b")
        await stage.work()
        found = order(lane.session)
        assert found[:6] == [0, 1, 2, 3, 4, 5]
        later = found[6:]
        assert sorted(later[:4]) != [100, 101, 102, 103]  # b was away, and has no claim on the time before
        assert {100, 6} <= set(later[:4])

    play(scene)


def test_a_priority_is_worth_nothing_against_another_payer(play):
    async def scene(stage):
        lane = stage.lane(0.0, 20.0)
        asked = [(n, {"payer": "pushy", "priority": 1}) for n in range(6)]
        asked += [(n, {"payer": "modest"}) for n in range(100, 106)]
        found = await filled(stage, lane, asked)
        for upto in range(2, 12, 2):
            assert abs(sum(n < 100 for n in found[:upto]) - upto // 2) <= 1

    play(scene)


def test_payers_share_the_rows_of_a_batch(play):
    async def scene(stage):
        lane = stage.lane(4.0, 1.0)
        stage.ask(lane, -1, payer="c")
        (bucket,) = lane.buckets.values()
        for n in range(2 * bucket.most):
            stage.ask(lane, n, payer="a")
        for n in range(1000, 1000 + bucket.most // 2):
            stage.ask(lane, n, payer="b")
        await stage.work()
        second = lane.session.runs[1]
        assert abs(sum(n >= 1000 for n in second) - len(second) // 2) <= 1

    play(scene)
