"""What several rooms' tests share: a home, a model that is really built, and small untrained models."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelmill.dataset import Dataset, Splits
from modelmill.method import decode
from modelmill.model import Body, Model, Part
from modelmill.prepare.chain import defaults, prepare
from modelmill.signature import Field, Signature
from modelmill.task.classify import Classify
from modelmill.task.regress import Regress

MODELMILL = [sys.executable, "-m", "modelmill.cli"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder of this test alone."""
    folder = tmp_path / "home"
    monkeypatch.setenv("MODELMILL_HOME", str(folder))
    monkeypatch.delenv("MODELMILL_DATABASE_URL", raising=False)
    monkeypatch.delenv("MODELMILL_STORE_URL", raising=False)
    return folder


@pytest.fixture
def run(home):
    """Run the command line in a process of its own: (exit code, standard output, standard error)."""

    def command(*arguments, timeout=300):
        done = subprocess.run(
            [*MODELMILL, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, check=False
        )
        return done.returncode, done.stdout, done.stderr

    return command


@pytest.fixture(scope="session")
def postgres_server():
    """A PostgreSQL server of this run's own; the test is skipped where there is none to start."""
    import postgres  # here: children of tests import this file without the folder of helpers

    lacking = postgres.lacking()
    if lacking:
        pytest.skip(lacking)
    with postgres.server() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server):
    """The URL of an empty PostgreSQL database of this test alone."""
    import psycopg

    name = f"mill_{secrets.token_hex(6)}"
    with psycopg.connect(f"{postgres_server}/postgres".replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{postgres_server}/{name}"


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """A home in which `iris@1` was built from the command line, and the JSON that the build printed."""
    folder = tmp_path_factory.mktemp("built") / "home"
    environment = {**os.environ, "MODELMILL_HOME": str(folder)}
    command = [*MODELMILL, "build", "iris", "--budget", "4 trials", "--workers", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@pytest.fixture
def in_built(built, monkeypatch):
    """The home of `iris@1`, as this test's home."""
    monkeypatch.setenv("MODELMILL_HOME", str(built[0]))
    return Path(built[0])


@pytest.fixture(autouse=True)
def one_thread():
    """As in a worker: several threads on a busy machine wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


Made = tuple[Model, Splits, Any]


def table(rows: int, seed: int, regress: bool = False) -> Dataset:
    rng = np.random.default_rng(seed)
    size = rng.normal(size=rows).astype(np.float32)
    color = rng.choice(np.array(["red", "green", "blue"], object), rows)
    value = 50 + 20 * size + 10 * (color == "red")
    target = value.astype(np.float32) if regress else np.where(value > 52, "big", "small").astype(object)
    size[::17] = np.nan
    fields = (Field("size", "FP32", nullable=True), Field("color", "BYTES", kind="category"))
    return Dataset(fields, {"size": size, "color": color}, target, "y")


def images(rows: int, seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 3, rows)
    pixels = rng.integers(0, 60, (rows, 8, 8))
    for row, label in enumerate(target):
        pixels[row, :, 3 * label : 3 * label + 2] += 150
    return Dataset((Field("image", "UINT8", (-1, 8, 8), "image"),), {"image": pixels.astype(np.uint8)}, target, "y")


def build(kind: str, arch: dict[str, Any], seed: int = 0) -> Made:
    parts = [
        images(count, number) if kind == "image" else table(count, number, kind == "regress")
        for number, count in enumerate((120, 40, 40))
    ]
    splits = Splits(*parts, digest="sha256:0")
    task = Regress() if kind == "regress" else Classify()
    classes = () if kind == "regress" else tuple(sorted(set(splits.train.target.tolist())))
    fields = splits.train.fields
    signature = Signature("regress" if kind == "regress" else "classify", fields, task.declare(classes), classes, "y")
    method = decode("arch", arch)
    shape = "image" if kind == "image" else "table"
    prepared = prepare([decode("prepare", step) for step in defaults(fields, shape)], splits.train, shape)
    body = Body(method.body, method(signature, prepared.shape, seed), arch)
    return Model((Part(body, prepared.fragment),), signature), splits, task


@pytest.fixture
def make() -> Callable[..., Made]:
    return build


@pytest.fixture
def judge() -> Callable[[Model], float]:
    return lambda model: 0.0
