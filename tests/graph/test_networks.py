"""Networks are written as they compute in evaluation: against torch, and against torch.onnx."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from modelmill.arch.cnn import Cnn
from modelmill.errors import ModelError
from modelmill.fragment import Writer
from modelmill.graph import foreign
from modelmill.graph.build import to_onnx
from modelmill.graph.emit import emit
from modelmill.graph.networks import leaves
from modelmill.model import Body
from modelmill.network.blocks import Residual, seeded
from modelmill.signature import Field, Signature

DIGITS = (load_digits().data.reshape(-1, 1, 8, 8) / 16).astype(np.float32)


def written(module: nn.Module, shape: tuple[int, ...]) -> bytes:
    writer = Writer()
    writer.rename(emit(Body("network", module), "features", writer, (0, 1))[0], "raw")
    return to_onnx(writer.fragment(), [Field("features", "FP32", (-1, *shape))], [Field("raw", "FP32", (-1, -1))])


def answer(data: bytes, rows: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(data).run(None, {"features": rows})[0]


def lived(make: Any, shape: tuple[int, ...]) -> nn.Module:
    """A module whose batch norms have seen data, left in training mode."""
    module = seeded(make, 3)
    rows = torch.tensor(DIGITS[:64].reshape(64, *shape))
    module.train()(rows)
    module.train()(rows * 2 + 1)
    return module


def assert_same(module: nn.Module, shape: tuple[int, ...]) -> None:
    data = written(module, shape)
    assert module.training, "emit leaves the mode as found"
    module.eval()
    for count in (1, 7):
        rows = DIGITS[:count].reshape(count, *shape)
        with torch.no_grad():
            wanted = module(torch.tensor(rows)).numpy()
        np.testing.assert_allclose(answer(data, rows), wanted, rtol=1e-4, atol=1e-5)


def conv(*settings: Any, **named: Any) -> nn.Module:
    return nn.Conv2d(*settings, **named)


IMAGE_NETWORKS = {
    "padding and stride": lambda: [conv(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU()],
    "kept the same size by name": lambda: [conv(1, 4, (3, 5), padding="same"), nn.LeakyReLU(0.2)],
    "no padding by name": lambda: [conv(1, 4, 3, padding="valid", bias=False), nn.BatchNorm2d(4, affine=False)],
    "groups and dilation": lambda: [conv(1, 4, 1), conv(4, 8, 3, groups=4, dilation=2), nn.GELU()],
    "max pool": lambda: [conv(1, 4, 3), nn.MaxPool2d(3, stride=2, padding=1), nn.Sigmoid()],
    "average pool that counts padding": lambda: [conv(1, 4, 3), nn.AvgPool2d(3, 2, 1), nn.Tanh()],
    "average pool that does not": lambda: [conv(1, 4, 3), nn.AvgPool2d(3, 2, 1, count_include_pad=False)],
    "norm first and dropout": lambda: [nn.BatchNorm2d(1), conv(1, 4, 3), nn.Dropout2d(0.5), nn.SiLU()],
    "global pool": lambda: [conv(1, 6, 3), nn.GELU("tanh"), nn.AdaptiveAvgPool2d(1)],
    "residual with a shortcut of its own": lambda: [
        Residual(
            nn.Sequential(conv(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 4, 3, padding=1)),
            nn.Sequential(conv(1, 4, 1, stride=2), nn.BatchNorm2d(4)),
            nn.ReLU(),
        )
    ],
    "residual of the same shape": lambda: [Residual(nn.Sequential(conv(1, 1, 3, padding=1)), nn.Identity(), nn.ELU())],
}


@pytest.mark.parametrize("name", sorted(IMAGE_NETWORKS))
def test_an_image_network_computes_what_torch_does(name: str) -> None:
    module = lived(lambda: nn.Sequential(*IMAGE_NETWORKS[name](), nn.Flatten(), nn.LazyLinear(3)), (1, 8, 8))
    assert_same(module, (1, 8, 8))


TABLE_NETWORKS = {
    "linear without bias, norm": lambda: [nn.Linear(64, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU6(), nn.Dropout(0.5)],
    "norm before linear": lambda: [nn.BatchNorm1d(64), nn.Linear(64, 8), nn.Softplus(), nn.Identity()],
    "layer norm": lambda: [nn.Linear(64, 8), nn.LayerNorm(8), nn.Hardswish()],
    "a layer that comes twice": lambda: [nn.Linear(64, 8), *[nn.Linear(8, 8), nn.ReLU()] * 2],
    "nested": lambda: [nn.Sequential(nn.Sequential(nn.Linear(64, 8)), nn.BatchNorm1d(8)), nn.Linear(8, 8)],
}


@pytest.mark.parametrize("name", sorted(TABLE_NETWORKS))
def test_a_table_network_computes_what_torch_does(name: str) -> None:
    assert_same(lived(lambda: nn.Sequential(*TABLE_NETWORKS[name](), nn.Linear(8, 3)), (64,)), (64,))


def test_batch_norms_are_folded_away() -> None:
    module = lived(lambda: nn.Sequential(*IMAGE_NETWORKS["padding and stride"](), nn.Flatten()), (1, 8, 8))
    assert b"BatchNormalization" not in written(module, (1, 8, 8))
    assert [type(leaf).__name__ for _, leaf in leaves(module)] == ["Conv2d", "BatchNorm2d", "ReLU", "Flatten"]


def test_our_network_and_torch_onnx_agree_and_ours_is_smaller() -> None:
    signature = Signature("classify", (), (), tuple(range(10)))
    module = lived(lambda: Cnn(width=6, residual=True)(signature, (1, 8, 8), 0), (1, 8, 8))
    writer = Writer()
    writer.rename(foreign.network(module, "features", (1, 8, 8), writer), "raw")
    inputs, outputs = [Field("features", "FP32", (-1, 1, 8, 8))], [Field("raw", "FP32", (-1, -1))]
    oracle, ours = to_onnx(writer.fragment(), inputs, outputs), written(module, (1, 8, 8))
    for count in (1, 9):
        np.testing.assert_allclose(answer(ours, DIGITS[:count]), answer(oracle, DIGITS[:count]), rtol=1e-4, atol=1e-5)
    assert len(ours) <= len(oracle)


def test_the_form_says_what_the_raw_output_is() -> None:
    linear, soft = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2), nn.Softmax(dim=1))
    forms = [
        emit(Body("network", m), "features", Writer(), c)[1] for m, c in ((linear, "ab"), (soft, "ab"), (linear, ""))
    ]
    assert forms == ["logits", "probabilities", "value"]


class Linear(nn.Linear):
    """A user's own class with the name of torch's."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 2


def test_an_unknown_module_is_refused_by_its_path() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4, 2), Linear(2, 2)))
    with pytest.raises(ModelError, match=r"body\.1\.1: no operation is known for the module .*Linear"):
        emit(Body("network", module), "features", Writer(), "ab")


@pytest.mark.parametrize(
    "module",
    [nn.MaxPool2d(2, ceil_mode=True), conv(1, 1, 3, padding=1, padding_mode="reflect"), nn.AdaptiveAvgPool2d(2)],
)
def test_a_setting_that_onnx_does_otherwise_is_refused(module: nn.Module) -> None:
    with pytest.raises(ModelError):
        emit(Body("network", module), "features", Writer(), "ab")


def test_a_graph_has_nothing_to_write() -> None:
    with pytest.raises(ModelError, match="ONNX graph already"):
        emit(Body("graph", b""), "features", Writer(), "ab")
