"""A registry in a temporary home, and something to publish; files from outside are made in `foreign_files.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from modelmill.registry.registry import Registry
from modelmill.signature import Field, Signature
from modelmill.store.home import Home

sys.path.append(str(Path(__file__).parent))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def registry(home: Home) -> Registry:
    return Registry(home.database, home.blobs)


@pytest.fixture
def signature() -> Signature:
    return Signature(
        task="classify",
        inputs=(Field("image", "FP32", (-1, 8, 8), "image"),),
        outputs=(Field("label", "INT64"), Field("probabilities", "FP32", (-1, 3))),
        classes=(0, 1, 2),
        target="digit",
    )
