"""An ONNX file from outside is read as a network that answers as it does, and is trained further."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import modelmill
from modelmill.errors import ModelError
from modelmill.graph.reading import read

TABLE = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 3), nn.Softmax(-1))
IMAGE = nn.Sequential(
    nn.Conv2d(1, 4, 3, padding=1, bias=False),
    nn.BatchNorm2d(4),
    nn.LeakyReLU(0.2),
    nn.MaxPool2d(2),
    nn.Conv2d(4, 8, 3, stride=2, groups=2),
    nn.Hardswish(),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(8, 3),
)
SERIES = nn.Sequential(nn.Conv1d(2, 4, 3, dilation=2), nn.Tanh(), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(4 * 14, 2))


class Viewed(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Flattens as older code does: exported, the new shape is worked out of the old one."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.head = nn.Conv2d(1, 2, 3), nn.Linear(2 * 9, 3)

    def forward(self, x: Any) -> Any:
        x = self.map(x).relu()
        return self.head(x.view(x.size(0), -1))


class Rows(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Makes more rows than there were, which no flattening does."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 3)

    def forward(self, x: Any) -> Any:
        return self.head(x.view(x.size(0) * 5, x.size(3)))


class Residual(nn.Module):  # type: ignore[misc]  # torch is untyped here
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        return x + self.one(x)


def exported(network: nn.Module, shape: tuple[int, ...]) -> bytes:
    """By torch's own exporter, batch norms left as they are."""
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.running_mean.uniform_(-1, 1)
            layer.running_var.uniform_(0.5, 2)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (torch.zeros(2, *shape),),
            file,
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
            do_constant_folding=False,
        )
    return file.getvalue()


@pytest.mark.parametrize(
    ("network", "shape"),
    [(TABLE, (4,)), (IMAGE, (1, 12, 12)), (SERIES, (2, 33)), (Viewed(), (1, 5, 5))],
    ids=["table", "image", "series", "viewed"],
)
def test_it_answers_as_the_file_does(network: nn.Module, shape: tuple[int, ...]) -> None:
    graph = exported(network, shape)
    found, features = read(graph, "outside@1")
    rows = np.random.default_rng(0).normal(size=(7, *shape)).astype(np.float32)
    wanted = onnxruntime.InferenceSession(graph).run(None, {"x": rows})[0]
    with torch.no_grad():
        scores = found(torch.from_numpy(rows))
    answers = scores.softmax(-1) if network is TABLE else scores
    assert features == shape
    np.testing.assert_allclose(answers.numpy(), wanted, atol=1e-5)
    assert not any(isinstance(layer, nn.Softmax) for layer in found)


@pytest.mark.parametrize(
    ("network", "shape", "words"),
    [
        (Residual(), (4,), "Add .*is no step of a chain"),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(2), nn.Linear(9, 3)),
            (1, 5, 5),
            "MatMul .*constant",
        ),
        (nn.Sequential(nn.GRU(3, 2)), (5, 3), "GRU "),
        (nn.Sequential(nn.InstanceNorm2d(2)), (2, 4, 4), "InstanceNormalization"),
        (Rows(), (1, 5, 5), "its layers do not fit each other"),
    ],
    ids=["residual", "flatten", "gru", "norm", "rows"],
)
def test_what_is_no_chain_is_refused_by_name(network: nn.Module, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ModelError, match=f"outside@1: cannot be read as a network: {words}") as refused:
        read(exported(network, shape), "outside@1")
    assert "model=module" in refused.value.hint


def test_one_bias_for_all_outputs_is_each_ones() -> None:
    proto = onnx.load_from_string(exported(nn.Sequential(nn.Linear(4, 3)), (4,)))
    name = next(node.input[2] for node in proto.graph.node if node.op_type == "Gemm")
    bias = next(one for one in proto.graph.initializer if one.name == name)
    bias.CopyFrom(onnx.numpy_helper.from_array(np.array([0.5], np.float32), name))
    network, _ = read(proto.SerializeToString(), "outside@1")
    assert network[0].bias.tolist() == [0.5, 0.5, 0.5]


def test_a_file_with_an_open_shape_or_two_inputs_is_refused() -> None:
    proto = onnx.load_from_string(exported(TABLE, (4,)))
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "width"
    with pytest.raises(ModelError, match="open shape"):
        read(proto.SerializeToString(), "outside@1")
    proto.graph.input.add().CopyFrom(proto.graph.input[0])
    with pytest.raises(ModelError, match="2 inputs"):
        read(proto.SerializeToString(), "outside@1")


@pytest.mark.parametrize("task", ["", "classify"])
def test_a_file_from_outside_is_trained_further_and_its_child_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.setenv("MODELMILL_HOME", str(tmp_path / "home"))
    (tmp_path / "net.onnx").write_bytes(exported(TABLE, (4,)))
    settings = {"task": task, "classes": ("a", "b", "c")} if task else {}
    modelmill.import_model(tmp_path / "net.onnx", "outside", settings=settings)
    spec = {
        "data": {"method": "builtin", "name": "iris"},
        "goal": {"maximize": "accuracy", "budget": "1 trials"},
        "arch": {"method": "trained", "model": "outside@1"},
        "train": {"method": "finetune", "epochs": 25, "learning_rate": 0.02},
        "compress": [],
        "search": {"folds": 1},
    }
    tuned = modelmill.build({**spec, "name": "tuned"})
    again = modelmill.build({**spec, "name": "again", "arch": {"method": "trained", "model": "tuned@1"}})
    assert min(tuned.metrics["accuracy"].value, again.metrics["accuracy"].value) > 0.85
