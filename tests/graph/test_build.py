"""A fragment becomes one ONNX file: correct, small, and the same every time."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from modelmill.errors import ModelError
from modelmill.fragment import Fragment, Op, Writer
from modelmill.graph.build import IR_VERSION, OPSET, to_onnx
from modelmill.graph.digest import digest
from modelmill.signature import Field

X = Field("x", "FP32", (-1, 2))
Y = Field("y", "FP32", (-1, 2))


def double() -> Fragment:
    writer = Writer()
    writer.op("Relu", ["x"])
    same = writer.op("Identity", ["x"])
    writer.rename(writer.op("Identity", [writer.op("Mul", [same, writer.constant(2.0)])]), "y")
    return writer.fragment()


def run(data: bytes, **inputs: object) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(data).run(None, inputs)


def test_a_graph_that_doubles_doubles() -> None:
    data = to_onnx(double(), [X], [Y])
    assert run(data, x=np.array([[1, -3]], np.float32))[0].tolist() == [[2.0, -6.0]]


def test_operations_that_no_output_needs_and_identities_are_gone() -> None:
    graph = onnx.load_from_string(to_onnx(double(), [X], [Y])).graph
    assert [node.op_type for node in graph.node] == ["Mul"]
    assert not any(node.name or node.doc_string for node in graph.node)


def test_the_same_fragment_gives_the_same_bytes_in_fixed_versions() -> None:
    first, second = to_onnx(double(), [X], [Y]), to_onnx(double(), [X], [Y])
    assert first == second
    assert digest(first) == digest(second)
    model = onnx.load_from_string(first)
    assert model.ir_version == IR_VERSION
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]


def test_names_within_do_not_change_the_bytes() -> None:
    def named(inner: str) -> Fragment:
        return Fragment((Op("Relu", ("x",), (inner,)), Op("Neg", (inner,), ("y",))))

    assert to_onnx(named("a"), [X], [Y]) == to_onnx(named("a_much_longer_name"), [X], [Y])


def test_an_inner_name_that_is_taken_by_an_input_does_no_harm() -> None:
    inputs = [Field("v0", "FP32"), Field("v1", "FP32")]
    fragment = Fragment((Op("Neg", ("v0",), ("a",)), Op("Add", ("a", "v1"), ("y",))))
    data = to_onnx(fragment, inputs, [Field("y", "FP32")])
    assert run(data, v0=np.array([2], np.float32), v1=np.array([5], np.float32))[0].tolist() == [3.0]


def test_one_value_can_be_two_outputs_and_an_input_an_output() -> None:
    writer = Writer()
    value = writer.op("Neg", ["x"])
    for name in ("y", "z"):
        writer.rename(value, name)
    writer.rename("x", "same")
    fields = [Field(name, "FP32", (-1, 2)) for name in ("y", "z", "same")]
    got = run(to_onnx(writer.fragment(), [X], fields), x=np.array([[1, 2]], np.float32))
    assert [value.tolist() for value in got] == [[[-1, -2]], [[-1, -2]], [[1, 2]]]


def test_strings_bytes_and_flags_are_types_of_columns() -> None:
    writer = Writer()
    names = writer.constant(["low", "high"])
    place = writer.op("Cast", [writer.op("Greater", ["pixel", writer.constant(9, np.uint8)])], {"to": 7})
    writer.rename(writer.op("Gather", [names, place]), "label")
    data = to_onnx(writer.fragment(), [Field("pixel", "UINT8"), Field("unused", "BOOL")], [Field("label", "BYTES")])
    got = run(data, pixel=np.array([3, 200], np.uint8), unused=np.array([True, False]))
    assert got[0].tolist() == ["low", "high"]


def test_equal_whole_number_constants_are_kept_once() -> None:
    writer = Writer()
    first = writer.op("Unsqueeze", ["x", writer.constant([1])])
    writer.rename(writer.op("Squeeze", [first, writer.constant([1])]), "y")
    assert len(onnx.load_from_string(to_onnx(writer.fragment(), [X], [Y])).graph.initializer) == 1


def test_an_output_that_nothing_writes_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="no operation writes the output 'label'"):
        to_onnx(double(), [X], [Field("label", "FP32")])


def test_a_value_that_nothing_gives_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="nothing gives the value 'features'"):
        to_onnx(Fragment((Op("Relu", ("features",), ("y",)),)), [X], [Y])


def test_an_operation_that_onnx_does_not_know_is_refused() -> None:
    with pytest.raises(ModelError, match="not valid ONNX"):
        to_onnx(Fragment((Op("Frobnicate", ("x",), ("y",)),)), [X], [Y])
