"""Small data and untrained models: a table with text and gaps, images of bytes, and a regression."""

from __future__ import annotations

from collections.abc import Callable
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
