"""Cells written to ONNX: as torch computes them, whatever the wiring."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from modelmill.arch.cell import OPERATIONS, Cell
from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.graph.emit import emit
from modelmill.model import Body
from modelmill.runtime.session import Session
from modelmill.signature import Field, Signature

SIGNATURE = Signature("classify", (), (), (0, 1, 2, 3))
FEATURES = {"table": (7,), "image": (2, 9, 8), "sequence": (3, 17)}


def by_chance(kind: str, seed: int) -> Cell:
    chance = random.Random(seed)
    nodes = chance.randint(0, 5)
    return Cell(
        operations=tuple(chance.choice(OPERATIONS[kind]) for _ in range(nodes)),  # type: ignore[misc]
        edges=tuple(tuple(chance.randint(0, 1) for _ in range(row + 1)) for row in range(nodes + 1)),  # type: ignore[misc]
        join=chance.choice(["add", "concat"]),  # type: ignore[arg-type]
        head=chance.choice(["average", "flatten"]),  # type: ignore[arg-type]
        width=chance.choice([3, 8]),
        stages=chance.choice([1, 2]),
        dropout=0.2,
    )


def lived(module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """The module, its batch norms with statistics and factors of their own."""
    rows = torch.Generator().manual_seed(0)
    module.train()
    with torch.no_grad():
        for _ in range(3):
            module(torch.randn(16, *shape, generator=rows) * 2 + 0.5)
        for part in module.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                part.weight.uniform_(0.5, 1.5, generator=rows)
                part.bias.uniform_(-0.5, 0.5, generator=rows)
    return module.eval()


def answers(module: nn.Module, shape: tuple[int, ...], rows: torch.Tensor) -> tuple[np.ndarray, bytes]:
    writer = Writer()
    writer.rename(emit(Body("network", module), "features", writer, SIGNATURE.classes)[0], "raw")
    data = to_onnx(writer.fragment(), [Field("features", "FP32", (-1, *shape))], [Field("raw", "FP32", (-1, 4))])
    return Session(data).run({"features": rows.numpy()})["raw"], data


@pytest.mark.parametrize("kind", sorted(FEATURES))
@pytest.mark.parametrize("seed", range(8))
def test_a_cell_by_chance_computes_what_torch_does(kind: str, seed: int) -> None:
    shape = FEATURES[kind]
    module = lived(by_chance(kind, seed)(SIGNATURE, shape, seed), shape)
    rows = torch.randn(9, *shape, generator=torch.Generator().manual_seed(1))
    found, data = answers(module, shape, rows)
    with torch.no_grad():
        np.testing.assert_allclose(found, module(rows).numpy(), rtol=1e-5, atol=1e-5)
    assert b"BatchNormalization" not in data


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in OPERATIONS.items() for name in names if name != "identity"]
)
def test_every_operation_computes_what_torch_does(kind: str, name: str) -> None:
    shape = FEATURES[kind]
    cell = Cell(operations=(name, name), edges=((1,), (1, 1), (1, 0, 1)), width=5, stages=1)  # type: ignore[arg-type]
    module = lived(cell(SIGNATURE, shape, 0), shape)
    rows = torch.randn(3, *shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        np.testing.assert_allclose(answers(module, shape, rows)[0], module(rows).numpy(), rtol=1e-5, atol=1e-5)
