"""A whole model becomes one file from raw rows to named outputs; foreign files are stripped and described."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from modelmill.errors import ModelError
from modelmill.fragment import Fragment, Writer
from modelmill.graph.clean import strip
from modelmill.graph.decode import describe
from modelmill.graph.digest import digest
from modelmill.graph.export import export, features_shape
from modelmill.model import Body, Model, Part
from modelmill.signature import Field, Signature
from modelmill.task.classify import Classify

CLASSES = ("no", "yes")
INPUTS = (Field("a", "FP32"), Field("b", "INT64"))


def prepared() -> Fragment:
    writer = Writer()
    one = writer.constant([1])
    columns = [writer.op("Unsqueeze", [writer.op("Cast", [field.name], {"to": 1}), one]) for field in INPUTS]
    writer.rename(writer.op("Concat", columns, {"axis": 1}), "features")
    return writer.fragment()


def model(body: Any, kind: Any = "network") -> Model:
    signature = Signature("classify", INPUTS, Classify().declare(CLASSES), CLASSES)
    return Model((Part(Body(kind, body), prepared()),), signature)


def greater() -> nn.Sequential:
    """Says yes where a is greater than b."""
    linear = nn.Linear(2, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, -1.0]]))
        linear.bias.zero_()
    return nn.Sequential(linear)


def answer(data: bytes) -> list[np.ndarray]:
    columns = {"a": np.array([3, 1], np.float32), "b": np.array([1, 3], np.int64)}
    return onnxruntime.InferenceSession(data).run(["label", "probabilities"], columns)


def test_raw_rows_become_labels() -> None:
    label, probabilities = answer(export(model(greater()), Classify()))
    assert label.tolist() == ["yes", "no"]
    np.testing.assert_allclose(probabilities[:, 1], 1 / (1 + np.exp([-2.0, 2.0])), rtol=1e-6)


def test_the_file_is_described_by_the_signature() -> None:
    inputs, outputs = describe(export(model(greater()), Classify()))
    assert [(f.name, f.datatype, f.shape) for f in inputs] == [("a", "FP32", (-1,)), ("b", "INT64", (-1,))]
    assert [(f.name, f.datatype, f.shape) for f in outputs] == [
        ("label", "BYTES", (-1,)),
        ("probabilities", "FP32", (-1, 2)),
    ]


def test_a_graph_is_given_as_it_is() -> None:
    assert export(model(b"bytes", "graph"), Classify()) == b"bytes"


def test_a_model_is_exported_twice_to_the_same_bytes() -> None:
    assert digest(export(model(greater()), Classify())) == digest(export(model(greater()), Classify()))


class Shifted(nn.Module):
    """A module of a user's, with a forward that only torch can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = greater()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) + torch.zeros_like(x)


def test_a_module_that_we_do_not_know_goes_through_torch_onnx() -> None:
    assert features_shape(prepared(), INPUTS) == (2,)
    data = export(model(Shifted()), Classify())
    assert answer(data)[0].tolist() == ["yes", "no"]
    assert b"/" not in data, "no path of this machine is in the file"


def noisy(doc: str) -> bytes:
    """A file with words, names and shapes that say nothing about what it computes."""
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"], name=f"node_{doc}", doc_string=doc)
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["batch", 2], doc_string=doc) for n in "xy")
    w = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
    graph = onnx.helper.make_graph([node], doc, [x], [y], [w], doc_string=doc, value_info=[])
    made = onnx.helper.make_model(graph, producer_name=doc, producer_version=doc, doc_string=doc)
    made.ir_version = 9
    made.opset_import[0].version = 20
    onnx.helper.set_model_props(made, {"key": doc})
    node_metadata(made, doc)
    return made.SerializeToString()


def node_metadata(made: Any, doc: str) -> None:
    made.graph.node[0].metadata_props.add(key="stack", value=doc)
    made.graph.metadata_props.add(key="stack", value=doc)


def test_words_in_a_file_do_not_change_its_digest() -> None:
    first, second = strip(noisy("/home/ann/train.py")), strip(noisy("b"))
    assert first == second
    assert b"ann" not in first
    assert strip(first) == first


def test_a_stripped_file_computes_the_same() -> None:
    rows = np.array([[1, 1], [5, 6]], np.float32)
    for data in (noisy("a"), strip(noisy("a"))):
        assert onnxruntime.InferenceSession(data).run(None, {"x": rows})[0].tolist() == [[2, 3], [6, 8]]


def external() -> bytes:
    made = onnx.load_from_string(noisy("a"))
    made.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    made.graph.initializer[0].ClearField("float_data")
    made.graph.initializer[0].external_data.add(key="location", value="../secret")
    return made.SerializeToString()


REFUSED: Sequence[tuple[bytes, str]] = [
    (b"not a model at all", "no ONNX file"),
    (b"", "without operations"),
    (external(), "file of its own"),
]


@pytest.mark.parametrize(("data", "words"), REFUSED)
def test_what_is_no_whole_model_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        strip(data)


def test_a_type_that_the_protocol_has_not_is_refused() -> None:
    made = onnx.load_from_string(noisy("a"))
    made.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.COMPLEX64
    with pytest.raises(ModelError, match="'x' has the type COMPLEX64"):
        describe(made.SerializeToString())


def test_an_estimator_that_cannot_be_written_is_refused_with_its_reason() -> None:
    with pytest.raises(ModelError, match="not fitted"):
        export(model(LogisticRegression(), "estimator"), Classify())
