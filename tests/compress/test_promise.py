"""A chain that is held to its word: what is dropped, what goes on, and what an earlier run has kept."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

from modelmill.compress import chain
from modelmill.compress.distill.larger import Larger
from modelmill.compress.finished import Finished
from modelmill.compress.promise import Promise
from modelmill.compress.prune.blocks import Blocks
from modelmill.compress.prune.gates import Gates
from modelmill.compress.prune.magnitude import Magnitude
from modelmill.compress.quantize.static import Static
from modelmill.errors import ModelError, StorageError
from modelmill.graph.export import export
from modelmill.store.cache import Cache
from modelmill.train.trainers.adam import Adam
from modelmill.trial import Outcome, Progress

MLP = {"method": "mlp", "width": 48, "depth": 2}


@pytest.fixture
def trained(make, judge):
    model, data, task = make("image", MLP)
    return list(Adam(epochs=5)(model, data, task, judge, 0))[-1].result, data, task


def held(steps, trained, promise, judge=lambda model: 1.0):
    model, data, task = trained
    last = list(chain.run(steps, model, data, task, judge, 0, None, promise))[-1]
    return last.result.body.value, last.steps


def test_a_step_that_makes_the_file_larger_is_dropped_and_the_next_goes_on_without_it(trained):
    graph, (larger, static) = held([Larger(epochs=1), Static()], trained, Promise("accuracy"))
    assert (larger.kept, static.kept) == (False, True)
    assert larger.why.startswith("it makes the file larger")
    before, after = larger.size_bytes
    assert after > before == static.size_bytes[0]
    assert graph == held([Static()], trained, Promise("accuracy"))[0]


def test_a_step_is_taken_whatever_it_costs_where_that_is_asked_for(trained):
    _, (larger,) = held([Larger(epochs=1)], trained, Promise("accuracy", insisted=frozenset({0})))
    assert larger.kept
    assert larger.size_bytes[1] > larger.size_bytes[0]


def test_a_step_that_costs_more_quality_than_allowed_is_dropped(trained):
    size = len(export(trained[0], trained[2]))

    def by_size(model):
        return len(model.body.value) / size

    for allowed, kept in ((0.01, False), (0.99, True)):
        _, (found,) = held([Static()], trained, Promise("accuracy", allowed), by_size)
        assert found.kept is kept
        assert found.quality[0] == 1.0
    assert (
        "0.0100 is the least" in held([Static()], trained, Promise("accuracy", 0.99, 1.0), lambda model: 0.0)[1][0].why
    )


def test_what_was_too_slow_is_left_out_with_its_figures(trained):
    slow = Outcome("prune.magnitude", {}, 0, kept=False, why="slower", latency_ratio=(1.2, 1.1, 1.3))
    graph, outcomes = held([Magnitude(epochs=1), Static()], trained, Promise("accuracy", slow={0: slow}))
    assert outcomes[0] == slow
    assert graph == held([Static()], trained, Promise("accuracy"))[0]


def test_a_step_that_refuses_is_dropped_with_its_reason(trained, monkeypatch):
    def refuse(self, model, data, task, judge, seed):
        raise ModelError("compress.quantize.static", "no such thing", "")
        yield

    monkeypatch.setattr(Static, "__call__", refuse)
    _, (found,) = held([Static()], trained, Promise("accuracy"))
    assert (found.kept, found.size_bytes) == (False, None)
    assert found.why == "it cannot be taken: compress.quantize.static: no such thing"


def test_a_step_that_fails_unforeseen_is_dropped_with_what_it_raised_and_the_next_goes_on(trained, monkeypatch):
    def fail(self, model, data, task, judge, seed):
        yield Progress(0, 1)
        return [][0]

    monkeypatch.setattr(Larger, "__call__", fail)
    graph, (larger, static) = held([Larger(), Static()], trained, Promise("accuracy"))
    assert (larger.kept, static.kept) == (False, True)
    assert "distill.larger: failed with IndexError: list index out of range (test_promise.py, line" in larger.why
    assert graph == held([Static()], trained, Promise("accuracy"))[0]
    model, data, task = trained
    with pytest.raises(ModelError, match="fault of the method") as caught:  # nothing is dropped without a promise
        list(chain.run([Larger()], model, data, task, lambda model: 1.0, 0))
    assert isinstance(caught.value.__cause__, IndexError)


def test_what_is_no_fault_of_a_step_ends_the_chain(trained, monkeypatch):
    def full(self, model, data, task, judge, seed):
        raise StorageError("the store", "no space left", "Make room.")
        yield

    monkeypatch.setattr(Static, "__call__", full)
    with pytest.raises(StorageError, match="no space left"):
        held([Static()], trained, Promise("accuracy"))


@pytest.mark.parametrize("steps", [[Magnitude(epochs=2, ratio=0.5), Static()], [Gates(epochs=2, gate_epochs=2)]])
def test_a_finished_step_is_taken_up_to_the_same_bytes(trained, tmp_path, steps):
    promise = Promise("accuracy", finished=Finished(Cache(tmp_path / "steps"), "tools"))
    first, outcomes = held(steps, trained, promise)
    assert not any(one.reused for one in outcomes)
    again, outcomes = held(steps, trained, promise)
    assert all(one.reused for one in outcomes)
    assert first == again
    _, outcomes = held(
        steps, trained, dataclasses.replace(promise, finished=Finished(Cache(tmp_path / "steps"), "newer"))
    )
    assert not any(one.reused for one in outcomes)


def test_a_finished_step_of_another_seed_other_settings_or_other_rows_is_none(trained, tmp_path):
    model, data, _ = trained
    finished = Finished(Cache(tmp_path))
    fewer = dataclasses.replace(data, train=data.train.take(np.arange(50)))
    keys = {
        finished.key(model, {"ratio": 0.5}, data, 0),
        finished.key(model, {"ratio": 0.5}, data, 1),
        finished.key(model, {"ratio": 0.4}, data, 0),
        finished.key(model, {"ratio": 0.5}, fewer, 0),
    }
    assert len(keys) == 4


def test_a_damaged_or_a_foreign_file_counts_as_none(trained, tmp_path):
    steps = [Magnitude(epochs=1, ratio=0.5)]
    promise = Promise("accuracy", finished=Finished(Cache(tmp_path)))
    first, _ = held(steps, trained, promise)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], whole[:-8] + bytes(8)):
        path.write_bytes(damaged)
        again, (outcome,) = held(steps, trained, promise)
        assert not outcome.reused
        assert again == first


def test_a_network_that_lost_blocks_is_made_again_and_not_put_together_wrongly(trained, tmp_path):
    promise = Promise("accuracy", finished=Finished(Cache(tmp_path)))
    steps = [Blocks(epochs=1, ratio=0.5)]
    assert held(steps, trained, promise)[0] == held(steps, trained, promise)[0]


def test_a_cache_forgets_what_was_used_longest_ago(tmp_path):
    cache = Cache(tmp_path, most_bytes=20)
    for moment, key in enumerate("ab"):
        cache.put(key, bytes(8))
        os.utime(tmp_path / key, (moment, moment))
    assert cache.find("a")
    cache.put("c", bytes(8))
    assert [key for key in "abc" if cache.find(key)] == ["a", "c"]
