"""The blob folder keeps bytes whole, or not at all."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmill.errors import StorageError, Tampered
from modelmill.store.blobs import Blobs, digest_of
from modelmill.store.packing.packed import stored


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def test_the_digest_is_sha256_in_full() -> None:
    assert digest_of(b"abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@settings(max_examples=20, deadline=None)
@given(data=st.binary(max_size=5000))
def test_what_is_put_comes_back(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    blobs = Blobs(tmp_path_factory.mktemp("blobs"))
    assert blobs.get(blobs.put(data)) == data


def test_putting_twice_keeps_one_file(blobs: Blobs) -> None:
    assert blobs.put(b"same") == blobs.put(b"same")
    assert len(list(blobs.folder.iterdir())) == 1


def test_a_flipped_bit_is_found_and_healed_by_putting_again(blobs: Blobs) -> None:
    digest = blobs.put(b"weights")
    blobs.path(digest).write_bytes(b"weightr")
    with pytest.raises(Tampered, match="changed after they were published"):
        blobs.get(digest)
    blobs.put(b"weights")
    assert blobs.get(digest) == b"weights"


def test_missing_bytes_are_said_to_be_missing(blobs: Blobs) -> None:
    digest = blobs.put(b"gone")
    blobs.delete(digest)
    blobs.delete(digest)
    assert not blobs.has(digest)
    with pytest.raises(StorageError, match="missing"):
        blobs.get(digest)


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../../etc/passwd", "a" * 63, "A" * 64, "/etc/passwd"])
def test_what_is_no_digest_never_becomes_a_path(blobs: Blobs, digest: str) -> None:
    with pytest.raises(StorageError, match="is no digest"):
        blobs.path(digest)


def test_short_writes_are_carried_on(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda number, data: write(number, bytes(data)[:7]))
        digest = blobs.put(b"a model in several pieces")
    assert blobs.get(digest) == b"a model in several pieces"


def test_a_full_disk_leaves_nothing_behind(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    blobs.put(b"first")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match=r"No space left.*Free some space"):
            blobs.put(b"second")
    assert [path.read_bytes() for path in blobs.folder.iterdir()] == [b"first"]


def test_a_folder_in_the_place_of_a_file_is_refused(blobs: Blobs) -> None:
    digest = blobs.put(b"x")
    blobs.delete(digest)
    blobs.path(digest).mkdir()
    with pytest.raises(StorageError):
        blobs.get(digest)


SPARSE = bytes(20_000) + b"what is left"


def packed(blobs: Blobs) -> tuple[str, Path]:
    """The digest of a packed file, and where it is."""
    digest = blobs.put(SPARSE, stored(SPARSE))
    return digest, next(path for path in blobs.folder.iterdir())


def test_a_packed_file_is_small_and_gives_the_bytes_that_were_put(blobs: Blobs) -> None:
    digest, path = packed(blobs)
    assert digest == digest_of(SPARSE)
    assert blobs.get(digest) == SPARSE
    assert blobs.has(digest)
    assert blobs.stored(digest) == path.stat().st_size < 200


def test_packing_takes_the_place_of_the_plain_file(blobs: Blobs) -> None:
    digest = blobs.put(SPARSE)
    assert blobs.stored(digest) == len(SPARSE)
    blobs.put(SPARSE, stored(SPARSE))
    assert not blobs.path(digest).exists()
    assert blobs.get(digest) == SPARSE


def test_small_files_and_random_bytes_are_stored_as_they_are() -> None:
    noise = np.random.default_rng(0).bytes(20_000)
    assert stored(SPARSE[:4000]) == SPARSE[:4000]
    assert stored(noise) is noise


def test_a_packed_file_can_be_mapped_and_is_expanded_once(blobs: Blobs) -> None:
    digest, _ = packed(blobs)
    path = blobs.opened(digest)
    assert path.read_bytes() == SPARSE
    before = path.stat().st_mtime_ns
    assert blobs.opened(digest).stat().st_mtime_ns == before


@pytest.mark.parametrize("place", [0, 5, 12, -1])
def test_a_changed_packed_file_is_tampered_with_and_healed_by_putting_again(blobs: Blobs, place: int) -> None:
    digest, path = packed(blobs)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(Tampered, match="changed after"):
        blobs.get(digest)
    blobs.put(SPARSE, stored(SPARSE))
    assert blobs.get(digest) == SPARSE


def test_a_packed_file_of_other_bytes_is_found_out(blobs: Blobs) -> None:
    digest, path = packed(blobs)
    path.write_bytes(stored(SPARSE + b"!"))
    with pytest.raises(Tampered, match="digest"):
        blobs.get(digest)


def test_a_packed_file_that_states_more_than_is_known_of_it_is_refused(blobs: Blobs) -> None:
    digest, _ = packed(blobs)
    with pytest.raises(Tampered, match="at most 100 can be"):
        blobs.get(digest, most=100)


def test_deleting_takes_both_forms_and_old_ones_are_told_by_their_digest(blobs: Blobs) -> None:
    digest, path = packed(blobs)
    size = path.stat().st_size
    assert blobs.older(time.time() + 10) == {digest: size}
    blobs.opened(digest)
    assert blobs.older(time.time() + 10) == {digest: size + len(SPARSE)}
    blobs.delete(digest)
    assert not blobs.has(digest)
    assert list(blobs.folder.iterdir()) == []
