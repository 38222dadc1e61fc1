"""Small ONNX files built by hand, and rows to run them on; lets tests import the searches of `made_up.py` by name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from modelmill.dataset import Dataset
from modelmill.signature import Field, Signature

sys.path.append(str(Path(__file__).parent))

LABELS = ("no", "yes")


@pytest.fixture(scope="session")
def dense() -> Callable[[int], bytes]:
    """A network of one hidden layer on x (rows, 4) with probabilities p (rows, 2), by its width."""
    from onnx import TensorProto, helper, numpy_helper

    def build(width: int) -> bytes:
        random = np.random.default_rng(0)
        first = numpy_helper.from_array(random.normal(size=(4, width)).astype(np.float32), "first")
        second = numpy_helper.from_array(random.normal(size=(width, 2)).astype(np.float32), "second")
        graph = helper.make_graph(
            [
                helper.make_node("MatMul", ["x", "first"], ["hidden"]),
                helper.make_node("Relu", ["hidden"], ["active"]),
                helper.make_node("MatMul", ["active", "second"], ["logits"]),
                helper.make_node("Softmax", ["logits"], ["p"]),
            ],
            "dense",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
            [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["rows", 2])],
            [first, second],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()

    return build


@pytest.fixture(scope="session")
def echo() -> bytes:
    """A classifier that says "yes" where x is above 0, surely."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("Greater", ["x", "zero"], ["above"]),
            helper.make_node("Cast", ["above"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["names", "index"], ["label"]),
            helper.make_node("OneHot", ["index", "two", "ends"], ["probabilities"]),
        ],
        "echo",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows"])],
        [
            helper.make_tensor_value_info("label", TensorProto.STRING, ["rows"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 2]),
        ],
        [
            numpy_helper.from_array(np.float32(0), "zero"),
            numpy_helper.from_array(np.array(LABELS, dtype=object), "names"),
            numpy_helper.from_array(np.int64(2), "two"),
            numpy_helper.from_array(np.array([0.1, 0.9], np.float32), "ends"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


@pytest.fixture(scope="session")
def signs() -> tuple[Dataset, Signature]:
    """Three hundred rows of one number, and whether it is above 0; one row in ten is labelled wrongly."""
    values = np.where(np.arange(300) % 2, 1.0, -1.0).astype(np.float32)
    truth = np.array([LABELS[int(value > 0)] for value in values], dtype=object)
    truth[::10] = [LABELS[1 - LABELS.index(label)] for label in truth[::10]]
    fields = (Field("x", "FP32"),)
    outputs = (Field("label", "BYTES", kind="category"), Field("probabilities", "FP32", (-1, 2), "array"))
    return Dataset(fields, {"x": values}, truth, "y"), Signature("classify", fields, outputs, LABELS, "y")


@pytest.fixture(scope="session")
def rows() -> Dataset:
    """Five rows for the dense networks."""
    values = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    return Dataset((Field("x", "FP32", (-1, 4), "array"),), {"x": values})
