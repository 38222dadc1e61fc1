from __future__ import annotations

import numpy as np
import pytest
import torch

from modelmill.errors import ModelError, SpecError
from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.runtime.session import Session
from modelmill.signature import Field, Signature
from modelmill.task.classify import UNSEEN, Classify
from modelmill.task.infer import explain, infer
from modelmill.task.names import check_names
from modelmill.task.regress import Regress

RAW = Field("raw", "FP32", (-1, 3))
LOGITS = np.array([[1, 2, 3], [9, 0, 0], [0, 0.5, 0]], np.float32)


def decoded(classes: tuple[str, ...] | tuple[int, ...], form: str, raw: np.ndarray) -> dict[str, np.ndarray]:
    task, writer = Classify(), Writer()
    signature = Signature("classify", (RAW,), task.declare(classes), classes)
    task.decode("raw", form, signature, writer)
    return Session(to_onnx(writer.fragment(), signature.inputs, signature.outputs)).run({"raw": raw})


@pytest.mark.parametrize(
    ("classes", "labels"), [(("a", "b", "c"), ["c", "a", "b"]), ((0, 1, 2), [2, 0, 1]), ((-4, 7, 90), [90, -4, 7])]
)
def test_the_label_is_the_class_of_the_greatest_logit(classes: tuple[str, ...], labels: list[str]) -> None:
    found = decoded(classes, "logits", LOGITS)
    assert found["label"].tolist() == labels
    wanted = torch.softmax(torch.from_numpy(LOGITS), 1).numpy()
    np.testing.assert_allclose(found["probabilities"], wanted, rtol=1e-6)


def test_probabilities_are_left_as_they_are() -> None:
    given = np.array([[0.2, 0.5, 0.3]], np.float32)
    found = decoded(("a", "b", "c"), "probabilities", given)
    assert found["label"].tolist() == ["b"]
    assert (found["probabilities"] == given).all()


def test_a_value_is_no_answer_to_which_class() -> None:
    with pytest.raises(ModelError, match="gives a value"):
        Classify().decode("raw", "value", Signature("classify", (RAW,), (), ("a", "b", "c")), Writer())


def test_probabilities_are_no_answer_to_how_much() -> None:
    with pytest.raises(ModelError, match="probabilities"):
        Regress().decode("raw", "probabilities", Signature("regress", (RAW,), ()), Writer())


@pytest.mark.parametrize("shape", [(-1, 1), (-1,)])
def test_a_value_loses_its_second_axis(shape: tuple[int, ...]) -> None:
    writer, field = Writer(), Field("raw", "FP32", shape)
    signature = Signature("regress", (field,), Regress().declare(()))
    Regress().decode("raw", "value", signature, writer)
    raw = np.array([1.5, 2.5], np.float32).reshape(shape)
    found = Session(to_onnx(writer.fragment(), signature.inputs, signature.outputs)).run({"raw": raw})
    assert found["value"].tolist() == [1.5, 2.5]


def test_outputs_are_declared_with_the_type_of_the_classes() -> None:
    assert [field.datatype for field in Classify().declare(("a", "b"))] == ["BYTES", "FP32"]
    assert Classify().declare((3, 4, 5))[0].datatype == "INT64"
    assert Classify().declare((3, 4, 5))[1].shape == (-1, 3)
    assert (Classify().width(("a", "b")), Regress().width(())) == (2, 1)


def test_labels_are_encoded_as_places_and_strangers_are_left_out_of_the_loss() -> None:
    encoded = Classify().encode(np.array(["b", "?", "a"], object), ("a", "b"))
    assert encoded.tolist() == [1, UNSEEN, 0]
    raw = torch.tensor([[0.0, 1.0], [5.0, -5.0], [2.0, 0.0]])
    whole = Classify().loss(raw, torch.from_numpy(encoded), None, 0.0)
    known = torch.nn.functional.cross_entropy(raw[[0, 2]], torch.tensor([1, 0]))
    assert whole.item() == pytest.approx(known.item())


def test_the_loss_of_classes_is_torchs_with_smoothing_and_soft_targets() -> None:
    raw, places = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
    soft = torch.nn.functional.one_hot(places, 3).float()
    wanted = torch.nn.functional.cross_entropy(raw, places, label_smoothing=0.1)
    assert Classify().loss(raw, places, None, 0.1).item() == pytest.approx(wanted.item(), rel=1e-6)
    assert Classify().loss(raw, soft, None, 0.1).item() == pytest.approx(wanted.item(), rel=1e-6)


def test_a_row_of_twice_the_weight_counts_as_two() -> None:
    raw, target = torch.tensor([[1.0], [2.0]]), torch.tensor([0.0, 0.0])
    assert Regress().loss(raw, target, torch.tensor([2.0, 1.0]), 0).item() == pytest.approx(2.0)
    logits, places = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 0])
    double = Classify().loss(logits[[0, 0, 1]], places[[0, 0, 1]], None, 0.0)
    assert Classify().loss(logits, places, torch.tensor([2.0, 1.0]), 0.0).item() == pytest.approx(double.item())


@pytest.mark.parametrize(
    ("target", "name", "task"),
    [
        (np.array(["x", "y"], object), "", "classify"),
        (np.array([True, False]), "", "classify"),
        (np.array([0, 1, 1, 0]), "", "classify"),
        (np.arange(10).repeat(50), "", "classify"),
        (np.arange(10), "", "regress"),
        (np.arange(10), "Species", "classify"),
        (np.arange(500), "", "regress"),
        (np.array([1.0, 2.0], np.float32), "", "regress"),
    ],
)
def test_the_task_is_told_from_the_target(target: np.ndarray, name: str, task: str) -> None:
    assert infer(target, name) == task
    assert "the target" in explain(target, name)[1]


def test_a_column_that_is_called_as_an_output_is_refused() -> None:
    field = Field("value", "FP32")
    with pytest.raises(SpecError, match="'value' has the name of an output of regress"):
        check_names(Signature("regress", (field,), Regress().declare(())))
    check_names(Signature("classify", (field,), Classify().declare(("a", "b")), ("a", "b")))
