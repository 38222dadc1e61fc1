"""The home folder lays things out, and keeps them to its owner."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelmill.errors import StorageError
from modelmill.store.home import Home


def test_everything_lies_in_a_folder_of_its_owners_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "deep" / "home")
    with home.database.reading():
        pass
    home.blobs.put(b"x")
    assert {path.name for path in home.path.iterdir()} >= {"modelmill.db", "blobs"}
    assert home.path.stat().st_mode & 0o777 == 0o700
    assert home.runs.is_dir()


def test_the_urls_may_point_elsewhere(tmp_path: Path) -> None:
    home = Home(tmp_path / "home", f"sqlite:///{tmp_path}/other.db", (tmp_path / "store").as_uri())
    with home.database.reading():
        pass
    assert home.blobs.path(home.blobs.put(b"x")).parent == tmp_path / "store"
    assert (tmp_path / "other.db").is_file()
    assert not home.path.exists()


def test_a_store_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="s3://"):
        _ = Home(tmp_path, store_url="s3://bucket").blobs


def test_a_file_in_the_place_of_the_home_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(StorageError, match="home"), Home(tmp_path / "home").database.reading():
        pass
