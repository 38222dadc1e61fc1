"""A small model of a table, slow ones too, and files of rows for it."""

from __future__ import annotations

import numpy as np
import pyarrow
import pytest

from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.signature import Field, Signature

CLASSES = ("low", 'mid "dle"', "high, very")


def make_model(hidden=8, seed=0):
    """An ONNX file of three numbers and a text to a label and probabilities, and its signature."""
    rng = np.random.default_rng(seed)
    fields = (*(Field(f"c{i}", "FP32", nullable=True) for i in range(3)), Field("kind", "BYTES", kind="category"))
    writer = Writer()
    axis = writer.constant(np.array([1], np.int64))
    columns = [writer.op("Unsqueeze", [f"c{i}", axis]) for i in range(3)]
    same = writer.op("Equal", ["kind", writer.constant(np.array(["odd"], object))])
    columns.append(writer.op("Unsqueeze", [writer.op("Cast", [same], {"to": 1}), axis]))
    features = writer.op("Concat", columns, {"axis": 1})
    layer = writer.op("MatMul", [features, writer.constant(rng.normal(size=(4, hidden)).astype(np.float32))])
    if hidden > 100:  # slow, by its size
        square = rng.normal(size=(hidden, hidden)).astype(np.float32) / np.float32(np.sqrt(hidden))
        layer = writer.op("Relu", [writer.op("MatMul", [layer, writer.constant(square)])])
    scores = writer.op("MatMul", [layer, writer.constant(rng.normal(size=(hidden, 3)).astype(np.float32))])
    probabilities = writer.op("Softmax", [scores], {"axis": 1})
    best = writer.op("ArgMax", [probabilities], {"axis": 1, "keepdims": 0})
    writer.rename(writer.op("Gather", [writer.constant(np.array(CLASSES, object)), best]), "label")
    writer.rename(probabilities, "probabilities")
    outputs = (Field("label", "BYTES"), Field("probabilities", "FP32", (-1, 3)))
    return to_onnx(writer.fragment(), fields, outputs), Signature("classify", fields, outputs, CLASSES, "y")


def make_rows(count, seed=0):
    """A table of so many rows, with a gap here and there and a column that no model takes."""
    rng = np.random.default_rng(seed)
    columns = {f"c{i}": rng.normal(size=count).round(4) for i in range(3)}
    gaps = {name: pyarrow.array(values, mask=rng.random(count) < 0.01) for name, values in columns.items()}
    kinds = rng.choice(["odd", "even", 'a "quoted"\nline, really'], count)
    return pyarrow.table({"id": np.arange(count), "kind": pyarrow.array(kinds.tolist()), **gaps})


@pytest.fixture(scope="session")
def model():
    return make_model()


@pytest.fixture
def table_model():
    return make_model


@pytest.fixture
def rows():
    return make_rows
