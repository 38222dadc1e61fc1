"""Rows that do not lie on the first axis: states, values that are one for all rows, batches of a fixed size."""

import numpy as np
import pytest

from modelmill.dataset import Dataset
from modelmill.errors import ModelError, RequestError
from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.graph.decode import axes_of
from modelmill.runtime.calls import answers, calls
from modelmill.runtime.rows import by_row, check, count, from_dataset, to_columns
from modelmill.runtime.session import Session
from modelmill.serve.request import Expected
from modelmill.serve.web import wire
from modelmill.signature import Field, Signature

X = Field("x", "FP32", (-1, 3), "array")
STATE = Field("state", "FP32", (2, -1, 3), "array", axis=1)
RATE = Field("rate", "INT64", (), axis=None)
OUTPUTS = (Field("y", "FP32", (-1, 3), "array"), Field("next", "FP32", (2, -1, 3), "array", axis=1))
RECURRENT = Signature("compute", (X, STATE, RATE), OUTPUTS)


def recurrent():
    """y = x * rate, next = state + x: rows on axis 0 and 1, and a scalar for all of them."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["rate"], ["factor"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["x", "factor"], ["y"]),
            helper.make_node("Add", ["state", "x"], ["next"]),
        ],
        "recurrent",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 3]),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [2, "rows", 3]),
            helper.make_tensor_value_info("rate", TensorProto.INT64, []),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 3]),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [2, "rows", 3]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return model.SerializeToString()


def some(rows, rates):
    random = np.random.default_rng(0)
    columns = {
        "x": random.normal(size=(rows, 3)).astype(np.float32),
        "state": random.normal(size=(rows, 2, 3)).astype(np.float32),
        "rate": np.resize(np.array(rates), rows),
    }
    return Dataset(RECURRENT.inputs, columns)


def test_a_file_of_ours_says_where_its_rows_are():
    session = Session(recurrent())
    assert session.axes == {"x": 0, "state": 1, "rate": None, "y": 0, "next": 1}


def test_without_that_name_rows_are_first_and_a_fixed_size_is_that_of_the_first_value():
    assert axes_of({"x": ["n", 3], "y": [None], "rate": []}) == {"x": 0, "y": 0, "rate": None}
    assert axes_of({"x": [1, 3], "state": [2, 1, 3], "y": [1, 1]}) == {"x": 0, "state": None, "y": 0}


@pytest.mark.parametrize("most", [2, 5, 100])
def test_a_data_set_is_answered_call_by_call_with_the_rows_first(most):
    data = some(9, [1, 1, 1, 2, 2])
    found = answers(Session(recurrent()), data, most)
    assert np.allclose(found["y"], data.columns["x"] * data.columns["rate"][:, None])
    assert np.allclose(found["next"], data.columns["state"] + data.columns["x"][:, None])


def test_a_call_ends_where_a_value_for_the_whole_call_changes():
    found = list(calls(Session(recurrent()), some(7, [8, 8, 16]), 2))
    assert [(int(given["rate"]), given["state"].shape[1]) for given in found] == [
        (8, 2),
        (16, 1),
        (8, 2),
        (16, 1),
        (8, 1),
    ]
    with pytest.raises(RequestError, match="these rows have different ones"):
        from_dataset(some(3, [8, 16]))


def test_a_fixed_batch_is_filled_up_and_what_filled_it_is_left_out():
    writer = Writer()
    writer.rename(writer.op("Neg", ["x"]), "y")
    fields = [Field(name, "FP32", (2, 1), "array") for name in "xy"]
    session = Session(to_onnx(writer.fragment(), fields[:1], fields[1:]))
    data = Dataset((), {"x": np.arange(5, dtype=np.float32)[:, None]})
    assert [given["x"].ravel().tolist() for given in calls(session, data, 100)] == [[0, 1], [2, 3], [4, 4]]
    assert answers(session, data, 100)["y"].ravel().tolist() == [0, -1, -2, -3, -4]


def test_a_column_that_does_not_fit_is_named():
    session = Session(recurrent())
    full = some(2, [1]).columns
    with pytest.raises(ModelError, match=r"takes 'state' as \[2, 3\], rows of \[3, 2\] came"):
        answers(session, Dataset((), {**full, "state": np.zeros((2, 3, 2), np.float32)}), 9)
    with pytest.raises(ModelError, match="takes 'rate', which the data have not"):
        list(
            calls(
                session, Dataset((), {"x": np.zeros((1, 3), np.float32), "state": np.zeros((1, 2, 3), np.float32)}), 9
            )
        )


def test_rows_of_json_become_tensors_and_their_answers_rows():
    rows = [{"x": [1, 2, 3], "state": [[n, 0, 0], [0, 0, n]], "rate": 2} for n in (10, 20)]
    tensors = to_columns(rows, RECURRENT)
    assert {name: tensor.shape for name, tensor in tensors.items()} == {"x": (2, 3), "state": (2, 2, 3), "rate": ()}
    check(tensors, RECURRENT)
    assert count(tensors, RECURRENT.inputs) == 2
    found = by_row(Session(recurrent()).run(tensors), RECURRENT, 2)
    assert found["next"].tolist() == [[[11, 2, 3], [1, 2, 13]], [[21, 2, 3], [1, 2, 23]]]
    with pytest.raises(RequestError, match=r"inputs.rate: is one value for all rows"):
        to_columns([rows[0], {**rows[1], "rate": 3}], RECURRENT)


def request(shapes, signature=RECURRENT):
    inputs = [
        {
            "name": field.name,
            "datatype": field.datatype,
            "shape": shapes[field.name],
            "data": [1] * int(np.prod(shapes[field.name])),
        }
        for field in signature.inputs
    ]
    import orjson

    return wire.read(orjson.dumps({"inputs": inputs}), None, Expected(signature))


@pytest.mark.parametrize("scalar", [[], [1]])
def test_the_wire_takes_tensors_as_the_signature_shapes_them(scalar):
    read = request({"x": [4, 3], "state": [2, 4, 3], "rate": scalar})
    assert read.rows == 4
    assert read.columns["rate"].shape == ()
    assert read.columns["state"].shape == (2, 4, 3)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"x": [4, 3], "state": [2, 3, 3], "rate": []}, "different numbers of rows: x 4, state 3"),
        ({"x": [4, 3], "state": [4, 2, 3], "rate": []}, r"expected \[2, -1, 3\], came \[4, 2, 3\]"),
        ({"x": [4, 3], "state": [2, 0, 3], "rate": []}, "has no rows"),
        ({"x": [4, 3], "state": [2, 4, 3], "rate": [2]}, r"expected \[\], came \[2\]"),
    ],
)
def test_the_wire_says_which_tensor_has_another_shape(shapes, words):
    with pytest.raises(RequestError, match=words):
        request(shapes)
