"""Untrained bodies: right shapes, weights by the seed, settings that reach the estimator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits
from torch import nn

from modelmill.arch.boosting import Boosting
from modelmill.arch.cnn import Cnn
from modelmill.arch.forest import Forest
from modelmill.arch.linear import Linear
from modelmill.arch.mlp import Mlp
from modelmill.arch.tree import Tree
from modelmill.contracts import Arch
from modelmill.errors import OutOfBounds, SpecError
from modelmill.method import decode, find, names
from modelmill.signature import Signature


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Histogram boosting takes a thread a core, which spin where cores are busy."""
    with threadpool_limits(1):
        yield


CLASSIFY = Signature("classify", (), (), ("a", "b", "c"))
REGRESS = Signature("regress", (), ())
ARCHS = [name for name in names("arch") if issubclass(find("arch", name), Arch)]
"""Those that start from nothing; heirs start from a model of the registry."""
ON_IMAGES = ("mlp", "cnn", "cell", "darknet53", "darknet53_light", "depthwise", "transformer")
NETWORKS: dict[str, tuple[int, ...]] = {**dict.fromkeys(ON_IMAGES, (1, 8, 8)), "rnn": (3, 7)}


def weights(module: nn.Module) -> list[float]:
    return [float(p.detach().sum()) for p in module.parameters()]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_network_has_an_output_a_class_and_one_for_a_value(name: str) -> None:
    arch = decode("arch", {"method": name})
    rows = torch.zeros(2, *NETWORKS[name])
    assert arch(CLASSIFY, NETWORKS[name], 0).eval()(rows).shape == (2, 3)
    assert arch(REGRESS, NETWORKS[name], 0).eval()(rows).shape == (2, 1)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_weights_are_a_function_of_the_seed_alone(name: str) -> None:
    arch = decode("arch", {"method": name})
    state = torch.get_rng_state()
    first = weights(arch(CLASSIFY, NETWORKS[name], 1))
    torch.rand(3)
    torch.set_rng_state(state)
    assert weights(arch(CLASSIFY, NETWORKS[name], 1)) == first
    assert weights(arch(CLASSIFY, NETWORKS[name], 2)) != first
    assert torch.equal(torch.get_rng_state(), state), "the global generator is left as found"


@pytest.mark.parametrize("name", ARCHS)
@pytest.mark.parametrize("task", ["classify", "regress"])
def test_every_arch_says_what_it_takes_and_builds_it(name: str, task: str) -> None:
    if name == "lightgbm":
        pytest.importorskip("lightgbm", reason="lightgbm is an extra")
    cls = find("arch", name)
    assert task in cls.tasks
    assert cls.kinds <= {"table", "image", "sequence"}
    body = cls()(CLASSIFY if task == "classify" else REGRESS, NETWORKS.get(name, (4,)), 0)
    assert isinstance(body, nn.Module) == (cls.body == "network")
    assert decode("arch", cls().as_table()) == cls()


@pytest.mark.parametrize("name", [n for n in ARCHS if n not in NETWORKS])
def test_an_estimator_learns_a_line_with_one_thread(name: str) -> None:
    if name == "lightgbm":
        pytest.importorskip("lightgbm", reason="lightgbm is an extra")
    x = np.random.default_rng(0).random((200, 2)).astype(np.float32)
    y = (x[:, 0] > 0.5).astype(int)
    table = {"method": name} | ({"iterations": 10} if name in ("boosting", "lightgbm") else {})
    fitted = decode("arch", table)(Signature("classify", (), (), (0, 1)), (2,), 0).fit(x, y)
    assert (fitted.predict(x) == y).mean() > 0.95
    assert fitted.get_params().get("n_jobs", 1) in (1, None)


def test_an_mlp_counts_its_parameters_by_hand() -> None:
    body = Mlp(depth=2, width=5, norm=False, dropout=0.1)(CLASSIFY, (4,), 0)
    assert count(body) == (4 * 5 + 5) + (5 * 5 + 5) + (5 * 3 + 3)
    assert [type(m).__name__ for m in body] == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]


def test_an_mlp_without_hidden_layers_is_linear() -> None:
    assert [type(m).__name__ for m in Mlp(depth=0)(CLASSIFY, (4,), 0)] == ["Linear"]


def test_a_cnn_counts_its_parameters_by_hand() -> None:
    body = Cnn(width=4, depth=2, growth=2, norm=False)(CLASSIFY, (1, 8, 8), 0)
    stem, first, second = 4 * 9 + 4, 4 * 4 * 9 + 4, 4 * 8 * 9 + 8
    assert count(body) == stem + first + second + (8 * 4 * 4 * 3 + 3)


def test_a_cnn_is_one_flat_chain_that_can_be_sliced() -> None:
    body = Cnn(width=4, blocks=2, residual=True, head="average", dropout=0.1)(CLASSIFY, (3, 28, 28), 0)
    chain = [type(m).__name__ for m in body]
    head = ["AdaptiveAvgPool2d", "Flatten", "Dropout", "Linear"]
    assert chain == ["Conv2d", "BatchNorm2d", "ReLU", *["Residual"] * 4, *head]
    assert [type(m.shortcut).__name__ for m in body[3:7]] == ["Identity", "Identity", "Sequential", "Identity"]


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (17, 28)])
@pytest.mark.parametrize("kernel", [1, 5])
def test_a_cnn_fits_every_size_of_image(size: tuple[int, int], kernel: int) -> None:
    for head in ("average", "flatten"):
        for residual in (False, True):
            table = {"method": "cnn", "width": 2, "depth": 4, "kernel": kernel, "head": head, "residual": residual}
            arch = decode("arch", table)
            assert arch(CLASSIFY, (2, *size), 0).eval()(torch.zeros(1, 2, *size)).shape == (1, 3)


def test_the_default_cnn_of_digits_is_under_50_kb_in_floats() -> None:
    assert count(Cnn()(Signature("classify", (), (), tuple(range(10))), (1, 8, 8), 0)) * 4 < 50_000


def test_a_cnn_of_a_table_is_refused() -> None:
    with pytest.raises(SpecError, match="cnn takes images"):
        Cnn()(CLASSIFY, (4,), 0)


SETTINGS: list[tuple[Any, Signature, dict[str, Any]]] = [
    (Linear(strength=4), CLASSIFY, {"C": 0.25}),
    (Linear(strength=4), REGRESS, {"alpha": 4}),
    (Linear(penalty="lasso"), REGRESS, {"l1_ratio": 1.0}),
    (Tree(depth=3, balanced=True), CLASSIFY, {"max_depth": 3, "class_weight": "balanced"}),
    (Forest(trees=7, features=0.5), REGRESS, {"n_estimators": 7, "max_features": 0.5, "n_jobs": 1}),
    (Boosting(leaves=5, l2=2), CLASSIFY, {"max_leaf_nodes": 5, "l2_regularization": 2, "early_stopping": False}),
]


@pytest.mark.parametrize(("arch", "signature", "wanted"), SETTINGS)
def test_a_setting_reaches_the_estimator(arch: Any, signature: Signature, wanted: dict[str, Any]) -> None:
    params = arch(signature, (4,), 7).get_params()
    assert {name: params[name] for name in wanted} == wanted
    assert params["random_state"] == 7


@pytest.mark.parametrize(
    ("name", "setting", "value"), [("mlp", "dropout", 1.0), ("cnn", "width", 0), ("tree", "depth", -1)]
)
def test_a_setting_out_of_bounds_is_refused(name: str, setting: str, value: float) -> None:
    with pytest.raises(OutOfBounds, match=rf"{name}\.{setting}"):
        decode("arch", {"method": name, setting: value})
