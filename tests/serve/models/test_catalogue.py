"""Which models are known, which are in memory, and who goes when there is no room."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from patience import eventually

from modelmill.errors import NotServed, OutOfBounds, Overloaded, Unavailable, UnknownModel, UsageError
from modelmill.runtime.memory import give_back, resident_bytes
from modelmill.serve.models.catalogue import Catalogue, Keeping
from modelmill.serve.models.residents import LEAST_BYTES, Budget, Residents
from modelmill.serve.models.size import bytes_of

ROOM = LEAST_BYTES + 20_000
"""What one model of two columns is reckoned to take, and a little more."""


@pytest.fixture
def shelf(empty_registry, publish_flowers):
    for name in ("a", "b", "c", "d"):
        publish_flowers(empty_registry, name)
    return empty_registry


class Counting:
    """A registry that counts how often files are read, and may hold a reader up."""

    def __init__(self, shelf):
        self.shelf = shelf
        self.files = []
        self.stood = []
        self.gate = threading.Event()
        self.gate.set()

    def __getattr__(self, name):
        return getattr(self.shelf, name)

    def file(self, version, name):
        self.files.append(version.reference)
        assert self.gate.wait(30)
        return self.shelf.file(version, name)

    def standing(self, since=0):
        last, aliases = self.shelf.standing(since)
        self.stood.append(set(aliases))
        return last, aliases


def catalogue(shelf, references=(), room=100, eager=0, owners=lambda name: {}):
    budget = Budget(room * ROOM, owners)
    found = Catalogue(shelf, references, lambda *_: None, Keeping(budget, eager=eager))
    found.start()
    return found


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("modelmill.serve.models.catalogue.ROOM_S", 0.0)


def in_memory(found):
    return sorted(name for name, _ in found.residents.held)


def test_of_many_models_none_is_loaded_before_it_is_asked_for(shelf):
    found = catalogue(shelf, eager=3)
    assert (found.names(), found.loaded) == (["a", "b", "c", "d"], 0)
    assert found.present("a") is None
    assert found.find("a") is found.present("a") is found.find("a@1")
    states = {name: state for name, _, state, _ in found.states()}
    assert states == {"a": "READY", "b": "UNAVAILABLE", "c": "UNAVAILABLE", "d": "UNAVAILABLE"}


def test_of_few_models_all_are_loaded_at_the_start_as_far_as_there_is_room(shelf):
    assert in_memory(catalogue(shelf, eager=4)) == ["a", "b", "c", "d"]
    assert catalogue(shelf, eager=4, room=2).loaded == 2


def test_what_was_used_longest_ago_goes_first(shelf):
    found = catalogue(shelf, room=3)
    for name in ("a", "b", "c"):
        found.find(name)
    assert found.present("a") is not None
    found.find("d")
    assert in_memory(found) == ["a", "c", "d"]
    assert found.present("b") is None
    assert found.residents.used() <= 3 * ROOM


def test_what_is_in_use_stays_and_what_is_let_go_still_answers(shelf):
    found = catalogue(shelf, room=2)
    first = found.find("a")
    found.find("b")
    first.in_flight = 1
    found.find("c")
    assert in_memory(found) == ["a", "c"]
    found.find("c").in_flight = 1
    with pytest.raises(Overloaded, match="are in use"):
        found.find("d")
    first.in_flight = 0
    session = first.lane.session
    del first
    with pytest.raises(Overloaded):  # a is let go, but who runs it holds its memory
        found.find("d")
    assert in_memory(found) == ["c"]
    assert session.run({"length": np.ones(1, "f4"), "width": np.zeros(1, "f4")})["label"] == ["long"]
    del session
    found.find("d")
    assert in_memory(found) == ["c", "d"]


def test_what_a_request_still_holds_counts_until_it_is_gone(shelf):
    found = catalogue(shelf, room=2)
    held = found.find("a")
    found.find("b")
    found.find("c")  # a goes, and is still held here, so that b has to go as well
    assert in_memory(found) == ["c"]
    assert found.residents.used() > ROOM
    del held
    assert found.residents.used() < ROOM


def test_a_load_waits_for_a_request_to_give_up_its_memory(shelf, monkeypatch):
    monkeypatch.setattr("modelmill.serve.models.catalogue.ROOM_S", 30.0)
    found = catalogue(shelf, room=1)
    found.find("a").in_flight = 1
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(found.find, "b")
        found.present("a").in_flight = 0
        assert future.result(30).name == "b"
    assert in_memory(found) == ["b"]


def test_a_model_larger_than_the_budget_is_refused_with_a_way_out(shelf):
    found = catalogue(shelf, room=0.5)
    with pytest.raises(Unavailable, match="--memory-budget"):
        found.find("a")
    assert found.residents.used() == 0


def test_an_owner_has_its_own_budget(shelf):
    found = catalogue(shelf, room=9, owners=lambda name: {"small": ROOM} if name < "c" else {})
    for name in ("c", "d", "a", "b"):
        found.find(name)
    assert in_memory(found) == ["b", "c", "d"]


def test_who_asks_for_what_is_being_loaded_waits_for_the_same(shelf):
    counting = Counting(shelf)
    found = catalogue(counting)
    counting.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(found.find, reference) for reference in ("a", "a@1", "a@live") * 2]
        counting.gate.set()
        assert len({id(future.result(30)) for future in futures}) == 1
    assert counting.files == ["a@1"]


def test_one_who_gives_up_does_not_take_the_load_from_the_others(shelf):
    counting = Counting(shelf)
    found = catalogue(counting)
    counting.gate.clear()

    async def both():
        leaving, staying = (asyncio.ensure_future(found.endpoint("a")) for _ in range(2))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
        counting.gate.set()
        return await staying

    assert asyncio.run(both()).name == "a"


def test_a_failing_load_is_told_and_does_not_poison(shelf, flowers_signature, monkeypatch):
    shelf.publish("bad", {"model.onnx": b"broken"}, flowers_signature)
    counting = Counting(shelf)
    found = catalogue(counting, room=1)
    for _ in range(2):
        with pytest.raises(Unavailable, match="bad@1: cannot be loaded"):
            found.find("bad")
    assert counting.files == ["bad@1"]  # the second did not try again at once
    assert found.residents.used() == 0
    assert "cannot be loaded" in {name: reason for name, _, _, reason in found.states()}["bad"]
    assert found.find("a").name == "a"
    monkeypatch.setattr("modelmill.serve.models.catalogue.AGAIN_S", 0.0)
    with pytest.raises(Unavailable):
        found.find("bad")
    assert counting.files.count("bad@1") == 2


def test_a_broken_model_does_not_keep_the_others_from_being_served(shelf, flowers_signature):
    shelf.publish("bad", {"model.onnx": b"broken"}, flowers_signature)
    found = catalogue(shelf, eager=9)
    assert in_memory(found) == ["a", "b", "c", "d"]
    with pytest.raises(Unavailable):
        catalogue(shelf, ["bad"], eager=9)


def test_a_version_that_was_in_memory_before_its_name_stood_for_it_is_reached_by_it(
    shelf, publish_flowers, flowers_signature
):
    """As a canary's is, when it goes live; and a next version that cannot be loaded leaves it in place."""
    found = catalogue(shelf)
    assert found.find("a").number == 1
    publish_flowers(shelf, "a")
    assert found.find("a@2").number == 2
    shelf.promote("a", 2)
    found.refresh()
    assert found.present("a") is found.present("a@2")
    assert "a@1" not in in_memory(found)
    shelf.publish("a", {"model.onnx": b"broken"}, flowers_signature)
    shelf.promote("a", 3)
    found.refresh()
    assert found.present("a").number == found.find("a").number == 2


def test_a_refresh_reads_what_changed_and_nothing_else(shelf, publish_flowers):
    counting = Counting(shelf)
    found = catalogue(counting)
    loaded = found.find("a")
    assert not found.refresh()
    publish_flowers(shelf, "b", sign=-1, promote=True)
    assert found.refresh()
    assert counting.stood == [{"a", "b", "c", "d"}, {"b"}]
    assert counting.files == ["a@1"]  # b is not in memory, and is not loaded for having changed
    assert found.present("a") is loaded
    assert found.find("b").number == 2
    publish_flowers(shelf, "b", promote=True)
    assert found.refresh()
    assert found.present("b").number == 3
    assert found.residents.held.keys() == {("a", 1), ("b", 3)}


def test_a_deleted_model_is_no_longer_served(shelf):
    found = catalogue(shelf)
    found.find("a")
    shelf.delete("a@1", force=True)
    assert found.refresh()
    assert (found.names(), found.loaded) == (["b", "c", "d"], 0)
    with pytest.raises(NotServed):
        found.find("a")


def test_an_alias_that_came_a_moment_ago_is_looked_up(shelf, publish_flowers):
    found = catalogue(shelf)
    publish_flowers(shelf, "a", sign=-1)
    shelf.promote("a", 2, "next")
    assert found.find("a@next").number == 2
    for reference in ("a@none", "a@9", "e", "a@"):
        with pytest.raises(NotServed):
            found.find(reference)


def test_given_names_are_all_that_is_served(shelf, publish_flowers):
    publish_flowers(shelf, "a", sign=-1)
    found = catalogue(shelf, ["a@2", "b"])
    assert found.names() == ["a", "b"]
    assert found.find("a").number == 2
    with pytest.raises(UnknownModel):
        catalogue(shelf, ["a@7"])


def test_what_is_unloaded_stays_away_until_it_is_loaded(shelf, publish_flowers):
    found = catalogue(shelf)
    found.find("a")
    found.unload("a")
    assert found.loaded == 0
    for reference in ("a", "a@1", "a@live"):
        with pytest.raises(NotServed, match="unloaded"):
            found.find(reference)
    publish_flowers(shelf, "a", sign=-1, promote=True)
    found.refresh()
    assert found.present("a") is None
    found.load("a")
    assert found.present("a").number == 2
    with pytest.raises(NotServed):
        found.load("e")
    with pytest.raises(NotServed):
        found.unload("e")


def test_what_is_unloaded_while_it_is_loaded_stays_away(shelf, publish_flowers):
    publish_flowers(shelf, "a", sign=-1)
    counting = Counting(shelf)
    found = catalogue(counting)
    found.find("a")
    counting.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(found.find, "a@2")
        assert eventually(lambda: "a@2" in counting.files)
        found.unload("a")
        counting.gate.set()
        with pytest.raises(NotServed, match="unloaded"):
            asked.result(30)
    assert (found.present("a@2"), found.loaded, found.residents.reserved) == (None, 0, {})
    found.load("a")
    assert found.find("a@2").number == 2


def test_what_is_kept_is_let_go_of_for_nobody(shelf, publish_flowers):
    publish_flowers(shelf, "a", sign=-1)
    found = catalogue(shelf, room=1)
    found.find("a")
    found.keep({"a"})
    with pytest.raises(Overloaded):
        found.find("a@2", wait_s=0.0)
    with pytest.raises(Overloaded):
        found.find("b", wait_s=0.0)
    assert list(found.residents.held) == [("a", 1)]
    found.keep(set())
    assert found.find("b").number == 1


def test_a_database_that_was_brought_back_from_a_copy_is_read_whole(shelf, publish_flowers):
    counting = Counting(shelf)
    found = catalogue(counting)
    found.known.last, found.known.stamp = 10_000, -1
    found.known.numbers["ghost"], found.known.aliases["ghost"] = 1, {"live": 1}
    assert found.refresh()
    assert found.names() == ["a", "b", "c", "d"]


def test_a_name_that_is_asked_for_in_two_versions_is_refused(shelf):
    assert catalogue(shelf, ["a", "a@live", "b@1"]).known.wanted == {"a": "live", "b": "1"}
    with pytest.raises(UsageError, match=r"a: is asked for as live and as 1\."):
        catalogue(shelf, ["a", "a@1"])


@pytest.mark.parametrize(
    ("text", "processes", "words"),
    [
        ("12", 1, r"at least 1MB.*Did you mean 12MB\?"),
        ("999KB", 1, "at least 1MB"),
        ("0", 1, "at least 1MB"),
        ("3MB", 4, "at least 4MB"),
        ("12XB", 1, "a size such as 500MB"),
        ("-1GB", 1, "a size such as 500MB"),
    ],
)
def test_a_budget_in_which_no_model_has_room_is_refused(text, processes, words):
    with pytest.raises(OutOfBounds, match=f"--memory-budget = '{text}': expected {words}"):
        bytes_of(text, processes)
    assert bytes_of("4MB", 4) == 4_000_000


@pytest.fixture
def settling(shelf):
    """Two small models in memory, under a budget that the process keeps by far."""
    found = catalogue(shelf)
    for name in ("a", "b"):
        found.find(name)
    give_back()
    found.residents.before_bytes = resident_bytes()
    yield found.residents
    found.close()


@pytest.mark.skipif(sys.platform != "linux", reason="memory as Linux tells it")
def test_what_a_load_takes_for_a_moment_costs_no_model_its_place(settling):
    taken = np.ones(200_000_000, np.uint8)
    with settling.passing(taken.nbytes):
        settling.settle()
    assert len(settling.held) == 2
    settling.settle()
    assert len(settling.held) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="memory as Linux tells it")
def test_what_is_free_and_not_given_back_yet_costs_no_model_its_place(settling):
    taken = [bytes([1]) * 60_000 for _ in range(4000)]
    del taken[:-1]  # the last one keeps the end of the heap
    settling.settle()
    assert len(settling.held) == 2
    assert len(taken) == 1


def test_a_large_load_waits_for_another_where_both_at_once_would_exceed_the_budget():
    size = 220_000_000
    for most, crowded in ((2 * size, True), (4 * size, False)):
        residents = Residents(Budget(most))
        assert not residents.is_crowded(size)
        residents.reserve(("a", 1), size)
        assert residents.is_crowded(size) == crowded
        residents.release(("a", 1))
        assert not residents.is_crowded(size)
