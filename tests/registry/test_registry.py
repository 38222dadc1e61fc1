"""The registry numbers, finds, promotes, rolls back, verifies and deletes."""

from __future__ import annotations

import os

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmill.errors import OutOfBounds, RegistryError, StorageError, Tampered, UnknownModel
from modelmill.event import Event
from modelmill.pipeline import Pipeline, Step
from modelmill.registry.records import before
from modelmill.registry.registry import Registry
from modelmill.report import Baseline, Counts, Data, Lineage, Report, Value
from modelmill.signature import Signature
from modelmill.store.blobs import digest_of
from modelmill.store.home import Home


def publish(registry: Registry, signature: Signature, times: int = 1, promote: bool | None = None) -> None:
    for _ in range(times):
        number = len(registry.versions("digits")) + 1 if registry.names() else 1
        registry.publish("digits", {"model.onnx": b"model %d" % number}, signature, promote=promote)


def report() -> Report:
    return Report(
        name="",
        version=0,
        live=False,
        task="classify",
        data=Data("sha256:d", 10, 64),
        metrics={"accuracy": Value(0.99, "test", (0.98, 1.0))},
        costs={"latency_ms": 0.1, "energy_mj": None},
        baseline=Baseline({}, {}),
        limits={},
        pareto=[],
        trials=Counts(done=3),
        seconds=1.5,
        spec={"goal": {"maximize": "accuracy"}},
        lineage=Lineage(),
    )


def test_a_step_of_a_pipeline_is_deleted_by_force_alone(registry: Registry, signature: Signature) -> None:
    publish(registry, signature, times=3)
    steps = tuple(Step(f"digits@{number}", {}, {}) for number in (2, 3))
    registry.publish("reader", {"pipeline.json": msgspec.json.encode(Pipeline(steps))}, signature)
    with pytest.raises(RegistryError, match=r"digits@2: it is a step of reader@1\. Delete what needs it first"):
        registry.delete("digits@2")
    registry.delete("digits@2", force=True)
    registry.delete("reader@1", force=True)
    registry.delete("digits@3")
    assert [version.number for version in registry.versions("digits")] == [1]


def test_a_version_comes_back_as_it_was_published(registry: Registry, signature: Signature) -> None:
    lineage = Lineage(model="sha256:m", data="sha256:d", parent="digits@0", tools={"modelmill": "0.1.0"})
    files = {"model.onnx": b"graph", "body.safetensors": b"weights"}
    made = registry.publish("digits", files, signature, lineage=lineage, notes="first try")
    found = registry.find("digits@1")
    assert found == made
    assert (found.reference, found.signature, found.lineage, found.notes) == (
        "digits@1",
        signature,
        lineage,
        "first try",
    )
    assert found.sizes == {"body.safetensors": 7, "model.onnx": 5}
    assert {name: registry.file(found, name) for name in found.files} == files
    assert registry.path("digits@1", "model.onnx").read_bytes() == b"graph"


ZEROS = bytes(50_000) + b"graph"


def test_a_file_that_packs_well_is_stored_small_and_served_whole(
    registry: Registry, signature: Signature, home: Home
) -> None:
    noise = bytes(np.random.default_rng(0).bytes(20_000))
    version = registry.publish("digits", {"model.onnx": ZEROS, "body.safetensors": noise}, signature)
    assert version.sizes == {"model.onnx": len(ZEROS), "body.safetensors": len(noise)}
    assert version.files["model.onnx"] == digest_of(ZEROS)
    assert registry.file(version, "model.onnx") == ZEROS
    stored = registry.stored(version)
    assert stored["model.onnx"] < 500
    assert stored["body.safetensors"] == len(noise)
    assert sum(path.stat().st_size for path in home.blobs.folder.iterdir()) == sum(stored.values())
    assert registry.verify("digits@1") == []


def test_a_packed_file_is_expanded_where_a_path_is_asked_for(registry: Registry, signature: Signature) -> None:
    version = registry.publish("digits", {"model.onnx": ZEROS}, signature)
    assert registry.path(version, "model.onnx").read_bytes() == ZEROS
    assert registry.file(version, "model.onnx") == ZEROS


def test_a_version_of_an_older_modelmill_is_read_as_it_lies_there(
    registry: Registry, signature: Signature, home: Home
) -> None:
    version = registry.publish("digits", {"model.onnx": ZEROS}, signature)
    home.blobs.delete(version.files["model.onnx"])
    home.blobs.put(ZEROS)
    assert registry.file("digits@1", "model.onnx") == ZEROS
    assert registry.verify("digits@1") == []
    assert registry.stored("digits@1") == {"model.onnx": len(ZEROS)}


def test_a_packed_file_that_was_changed_is_refused_and_said_to_be(
    registry: Registry, signature: Signature, home: Home
) -> None:
    registry.publish("digits", {"model.onnx": ZEROS}, signature)
    (path,) = home.blobs.folder.iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(Tampered, match="in the middle of something"):
        registry.file("digits@1", "model.onnx")
    (problem,) = registry.verify("digits@1")
    assert problem.startswith("model.onnx: it ends after")


def test_deleting_a_version_takes_its_packed_files(registry: Registry, signature: Signature, home: Home) -> None:
    registry.publish("digits", {"model.onnx": ZEROS}, signature)
    registry.publish("digits", {"model.onnx": ZEROS + b"!"}, signature, promote=True)
    registry.delete("digits@1")
    (left,) = home.blobs.folder.iterdir()
    assert registry.file("digits@2", "model.onnx") == ZEROS + b"!"
    assert left.name.endswith(".packed")


def test_the_first_version_is_live_and_later_ones_only_when_promoted(registry: Registry, signature: Signature) -> None:
    assert registry.publish("digits", {}, signature).aliases == ("live",)
    assert registry.publish("digits", {}, signature).aliases == ()
    assert registry.find("digits").number == 1
    assert registry.publish("digits", {}, signature, promote=True).aliases == ("live",)
    assert registry.find("digits").number == 3
    assert registry.publish("wine", {}, signature, promote=False).aliases == ()


def test_the_report_learns_its_number_and_stays_true_when_the_alias_moves(
    registry: Registry, signature: Signature
) -> None:
    first = registry.publish("digits", {}, signature, report())
    second = registry.publish("digits", {}, signature, msgspec.json.encode(report()))
    assert registry.report(first) == msgspec.structs.replace(report(), name="digits", version=1, live=True)
    assert registry.report("digits@2") == msgspec.structs.replace(report(), name="digits", version=2)
    registry.promote("digits", 2)
    assert (registry.report(first).live, registry.report(second).live) == (False, True)


def test_a_file_may_be_made_once_the_number_is_known(registry: Registry, signature: Signature) -> None:
    page = {"report.html": lambda number, live: f"digits@{number}, live: {live}".encode()}
    for _ in range(2):
        registry.publish("digits", page, signature)
    assert registry.file("digits@1", "report.html") == b"digits@1, live: True"
    assert registry.file("digits@2", "report.html") == b"digits@2, live: False"


def test_a_file_that_cannot_be_made_publishes_nothing(registry: Registry, signature: Signature) -> None:
    def fail(number: int, live: bool) -> bytes:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        registry.publish("digits", {"model.onnx": b"x", "page": fail}, signature)
    assert registry.names() == []
    assert registry.stamp() == 0
    assert registry.publish("digits", {}, signature).number == 1


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("digit", r"no model named 'digit'\. Did you mean digits\?"),
        ("digits@7", r"no version named '7'.*1, 2"),
        ("digits@lve", r"no alias named 'lve'.*live"),
        ("digits@", "no alias named ''"),
        ("../../etc/passwd", "no model named"),
        ("digits@-1", "no alias named '-1'"),
        ("digits@٣", "no alias named"),
        ("digits@99999999999999999999", "no alias named"),
        ("digits\x00", "no model named"),
        ("", "no model named ''"),
    ],
)
def test_what_is_not_there_is_answered_with_what_is(
    registry: Registry, signature: Signature, reference: str, words: str
) -> None:
    publish(registry, signature, 2)
    with pytest.raises(UnknownModel, match=words):
        registry.find(reference)


def test_an_empty_registry_says_how_to_begin(registry: Registry) -> None:
    with pytest.raises(UnknownModel, match="modelmill build"):
        registry.find("digits")


def test_a_model_without_a_live_version_says_how_to_get_one(registry: Registry, signature: Signature) -> None:
    registry.publish("digits", {}, signature, promote=False)
    with pytest.raises(UnknownModel, match=r"no version of it is live\. Try digits@1, or: .* promote digits@1"):
        registry.find("digits")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    home = Home(tmp_path_factory.mktemp("empty"))
    return Registry(home.database, home.blobs)


@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=40))
def test_no_reference_breaks_the_registry(empty: Registry, text: str) -> None:
    with pytest.raises(UnknownModel):
        empty.find(text)


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b", "a\\b", ".hidden", "a b", "a@b", "a..b", "x" * 101, "naïve", "a\n"]
)
def test_a_name_that_could_be_a_path_is_refused(registry: Registry, signature: Signature, name: str) -> None:
    with pytest.raises(OutOfBounds, match="name = "):
        registry.publish(name, {}, signature)
    with pytest.raises(OutOfBounds, match="file = "):
        registry.publish("digits", {name: b""}, signature)
    assert registry.names() == []


def test_notes_of_a_promotion_that_changes_nothing_are_refused(registry: Registry, signature: Signature) -> None:
    publish(registry, signature, 2, promote=True)
    with pytest.raises(RegistryError, match="digits@2: is live already, and notes are kept of changes only"):
        registry.promote("digits", 2, note="new words")
    assert registry.promote("digits", 2).aliases == ("live",)
    assert registry.promote("digits", 2, "canary", "new words").aliases == ("canary", "live")


def test_promote_and_rollback_walk_back_step_by_step(registry: Registry, signature: Signature) -> None:
    publish(registry, signature, 3, promote=True)
    registry.promote("digits", 1, note="the new ones are slow")
    assert [registry.rollback("digits").number for _ in range(3)] == [3, 2, 1]
    with pytest.raises(RegistryError, match="stood nowhere else before"):
        registry.rollback("digits")
    assert registry.find("digits").number == 1


def test_promoting_what_is_live_changes_nothing(registry: Registry, signature: Signature) -> None:
    publish(registry, signature)
    stamp = registry.stamp()
    assert registry.promote("digits", 1).aliases == ("live",)
    assert registry.stamp() == stamp


def test_an_alias_of_ones_own_moves_by_itself(registry: Registry, signature: Signature) -> None:
    publish(registry, signature, 2)
    assert registry.promote("digits", 2, "canary").aliases == ("canary",)
    assert registry.find("digits@canary").number == 2
    assert registry.find("digits").number == 1
    with pytest.raises(OutOfBounds, match="starts with a letter"):
        registry.promote("digits", 2, "3")


def test_rollback_passes_over_deleted_versions(registry: Registry, signature: Signature) -> None:
    publish(registry, signature, 3, promote=True)
    registry.delete("digits@2")
    assert registry.rollback("digits").number == 1


def test_where_an_alias_stood_before_is_read_from_the_events() -> None:
    def event(verb: str, number: int) -> Event:
        return Event(0, verb, "digits", number, "", "live")

    happened = [event("promote", 1), event("promote", 2), event("rollback", 1), event("promote", 3)]
    assert before(happened, "live", [1, 2, 3], 3) == 1
    assert before(happened, "live", [2, 3], 3) is None
    assert before(happened, "canary", [1, 2, 3], None) is None


def test_every_change_is_an_event_with_its_note(registry: Registry, signature: Signature) -> None:
    registry.publish("digits", {}, signature, notes="first")
    registry.publish("digits", {}, signature)
    registry.promote("digits", 2, note="faster")
    registry.rollback("digits", note="wrong")
    registry.delete("digits@2", note="unused")
    told = [(event.verb, event.number, event.alias, event.note) for event in registry.events("digits")]
    assert told == [
        ("publish", 1, "", "first"),
        ("promote", 1, "live", "published as live"),
        ("publish", 2, "", ""),
        ("promote", 2, "live", "faster"),
        ("rollback", 1, "live", "wrong"),
        ("delete", 2, "", "unused"),
    ]
    assert registry.stamp() == 6
    with pytest.raises(UnknownModel):
        registry.events("wine")


def test_the_live_version_is_deleted_only_by_force(registry: Registry, signature: Signature) -> None:
    publish(registry, signature, 2)
    with pytest.raises(RegistryError, match=r"digits@1: it is live\..*--force"):
        registry.delete("digits")
    registry.delete("digits", force=True)
    assert [version.number for version in registry.versions("digits")] == [2]
    with pytest.raises(UnknownModel, match="no version of it is live"):
        registry.find("digits")
    assert registry.publish("digits", {}, signature).number == 3


def test_the_number_of_a_deleted_version_is_not_given_again(registry: Registry, signature: Signature) -> None:
    publish(registry, signature)
    registry.delete("digits@1", force=True)
    assert registry.names() == []
    assert registry.publish("digits", {}, signature).number == 2


def test_deleting_keeps_the_bytes_that_others_need(registry: Registry, home: Home, signature: Signature) -> None:
    shared, own, candidate = b"shared", b"own", home.blobs.put(b"a candidate")
    registry.publish("digits", {"model.onnx": shared}, signature)
    registry.publish("digits", {"model.onnx": shared, "body": own, "candidate": b"a candidate"}, signature)
    with home.database.writing() as connection:
        connection.execute("INSERT INTO studies (id, key, spec, state, created_ms) VALUES (1, 'k', '{}', 'running', 0)")
        connection.execute(
            "INSERT INTO trials (study_id, number, state, body) VALUES (1, 0, 'done', :body)",
            {"body": msgspec.json.encode({"artifact": candidate}).decode()},
        )
    own_digest = registry.find("digits@2").files["body"]
    registry.delete("digits@2")
    assert registry.file("digits@1", "model.onnx") == shared
    assert home.blobs.get(candidate) == b"a candidate"
    assert not home.blobs.has(own_digest)


def test_a_sweep_frees_what_nothing_needs_once_it_is_old(registry: Registry, home: Home, signature: Signature) -> None:
    publish(registry, signature)
    orphan = home.blobs.put(b"orphan")
    torn = home.blobs.folder / ".torn.1234.part"
    torn.write_bytes(b"half")
    assert registry.sweep() == 0
    assert home.blobs.has(orphan)
    assert registry.sweep(older_than_s=-10) == len(b"orphan")
    assert not torn.exists()
    assert registry.verify("digits") == []


def test_what_was_put_again_is_young(home: Home) -> None:
    digest = home.blobs.put(b"candidate")
    os.utime(home.blobs.path(digest), (1000, 1000))
    assert home.blobs.older(2000) == {digest: 9}
    home.blobs.put(b"candidate")
    assert home.blobs.older(2000) == {}


def test_a_flipped_bit_is_found_by_verify_and_at_every_read(
    registry: Registry, home: Home, signature: Signature
) -> None:
    version = registry.publish("digits", {"model.onnx": b"\x00" * 100, "body": b"fine"}, signature)
    assert registry.verify("digits") == []
    path = home.blobs.path(version.files["model.onnx"])
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    path.write_bytes(data)
    (problem,) = registry.verify("digits@1")
    assert problem.startswith("model.onnx: the stored bytes have the digest")
    for read in (registry.file, registry.path):
        with pytest.raises(Tampered):
            read(version, "model.onnx")
    assert registry.file(version, "body") == b"fine"


def test_a_lost_file_is_found_by_verify_and_named_when_read(
    registry: Registry, home: Home, signature: Signature
) -> None:
    version = registry.publish("digits", {"model.onnx": b"x"}, signature)
    home.blobs.delete(version.files["model.onnx"])
    assert registry.verify("digits") == ["model.onnx: the file is missing"]
    with pytest.raises(StorageError, match=r"digits@1 model\.onnx: the file is missing"):
        registry.file(version, "model.onnx")


def test_a_version_deleted_after_it_was_found_is_unknown(registry: Registry, signature: Signature) -> None:
    version = registry.publish("digits", {"model.onnx": b"x"}, signature)
    registry.delete("digits@1", force=True)
    with pytest.raises(UnknownModel):
        registry.file(version, "model.onnx")


def test_a_file_that_does_not_belong_is_refused(registry: Registry, signature: Signature) -> None:
    publish(registry, signature)
    with pytest.raises(UnknownModel, match=r"no file named '\.\./model\.onnx'.*It has model\.onnx"):
        registry.file("digits", "../model.onnx")


def test_the_registry_works_through_sqlalchemy_too(home: Home, signature: Signature) -> None:
    home = Home(home.path, f"sqlite+pysqlite:///{home.path}/alchemy.db")
    home.blobs.put(b"")
    registry = Registry(home.database, home.blobs)
    publish(registry, signature, 2, promote=True)
    assert registry.rollback("digits").number == 1
    registry.delete("digits@2")
    assert [version.reference for version in registry.versions("digits")] == ["digits@1"]
    assert [event.verb for event in registry.events("digits")][-2:] == ["rollback", "delete"]
    home.database.close()
