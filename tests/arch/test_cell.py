"""Networks of cells: what they compute, which of them are the same, and what a search may leave open."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from modelmill.arch.cell import OPERATIONS, Cell, space
from modelmill.checking import check
from modelmill.errors import OutOfBounds, SpecError, UnknownName
from modelmill.method import decode
from modelmill.network.graphbody import Graph
from modelmill.network.slicing import channels, prune
from modelmill.signature import Signature
from modelmill.space import Dimension
from modelmill.spec import pick, read

SIGNATURE = Signature("classify", (), (), (0, 1, 2))
FEATURES = {"table": (7,), "image": (2, 9, 8), "sequence": (3, 17)}
KINDS = sorted(FEATURES)


def times(factor: float) -> nn.Module:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, factor)
    return layer


def by_chance(seed: int) -> Callable[[Dimension], Any]:
    chance = random.Random(seed)
    return lambda dimension: chance.choice(dimension.options)


def picked(arch: dict[str, Any], seed: int) -> Cell:
    spec = read({"data": {"method": "builtin", "name": "digits"}, "arch": arch})
    check(spec)
    cell = decode("arch", pick(spec, by_chance(seed)).arch)
    assert isinstance(cell, Cell)
    return cell


def body(cell: Cell, kind: str, seed: int = 0) -> nn.Module:
    return cell(SIGNATURE, FEATURES[kind], seed).eval()


def rows(kind: str) -> torch.Tensor:
    return torch.randn(4, *FEATURES[kind], generator=torch.Generator().manual_seed(1))


def key(cell: Cell) -> str:
    return json.dumps(cell.canonical(), sort_keys=True)


def test_nodes_work_on_the_sum_of_what_they_read() -> None:
    # 2 x, then 3 (x + 2 x), and together 11 x
    graph = Graph([times(2), times(3)], [(0,), (0, 1), (1, 2)])
    assert graph(torch.ones(1, 1)).item() == 11


def test_what_the_output_reads_may_be_laid_side_by_side() -> None:
    mix = nn.Linear(2, 1, bias=False)
    mix.weight.data = torch.tensor([[1.0, 10.0]])
    assert Graph([times(2), times(3)], [(0,), (0,), (1, 2)], mix)(torch.ones(1, 1)).item() == 32


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("join", ["add", "concat"])
def test_whatever_is_picked_from_a_space_is_a_network(kind: str, join: str) -> None:
    settings = {"join": join, "width": 4, "stages": {"any": [1, 2]}, "head": {"any": ["average", "flatten"]}}
    for seed in range(6):
        cell = picked(space(kind, 4, settings=settings), seed)
        assert body(cell, kind)(rows(kind)).shape == (4, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_graphs_are_one_network_to_the_last_bit(kind: str) -> None:
    names = OPERATIONS[kind][:2]
    first = Cell(kind=kind, operations=names, edges=((1,), (1, 0), (0, 1, 1)))  # type: ignore[arg-type]
    second = Cell(
        kind=kind,  # type: ignore[arg-type]
        operations=(names[1], "identity", names[0]),
        edges=((1,), (1, 0), (0, 0, 1), (0, 1, 0, 1)),
    )
    assert key(first) == key(second)
    assert torch.equal(body(first, kind)(rows(kind)), body(second, kind)(rows(kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_canonical_form_is_a_table_of_the_same_network(kind: str) -> None:
    settings = {"width": {"any": [3, 4]}, "stages": {"any": [1, 2]}, "depth": {"any": [1, 2]}, "most": {"any": [0, 3]}}
    for seed in range(6):
        cell = picked(space(kind, 3, settings=settings), seed)
        again = decode("arch", cell.canonical())
        assert key(again) == key(cell)
        assert torch.equal(body(cell, kind)(rows(kind)), body(again, kind)(rows(kind)))


def test_settings_that_change_nothing_are_not_part_of_the_form() -> None:
    one = Cell(kind="image", stages=1, growth=2.0, join="concat", edges=((1,), (0, 1), (0, 0, 1)))
    other = Cell(kind="image", stages=1, growth=3.0, join="add", edges=((1,), (0, 1), (0, 0, 1)))
    assert key(one) == key(other) == key(one.replace(operations=("conv3", "conv3")))
    assert key(one.replace(stages=2)) != key(other.replace(stages=2))
    empty = Cell(operations=("identity",), edges=((1,), (0, 1)))
    assert key(empty) == key(empty.replace(depth=3))


def test_a_network_without_nodes_is_its_stem_and_its_head() -> None:
    made = Cell(operations=(), edges=((1,),), stages=1)(SIGNATURE, (1, 8, 8), 0)
    assert [type(layer).__name__ for layer in made] == [
        *("Conv2d", "BatchNorm2d", "ReLU", "AdaptiveAvgPool2d", "Flatten", "Linear"),
    ]


def test_later_stages_are_half_as_large_and_wider() -> None:
    made = Cell(width=4, stages=3, growth=2.0, depth=2, head="flatten")(SIGNATURE, (1, 9, 8), 0)
    assert [layer.out_channels for layer in made if isinstance(layer, nn.Conv2d)] == [4, 8, 16]
    assert sum(isinstance(layer, Graph) for layer in made) == 6
    assert made[-1].in_features == 16 * 3 * 2


def test_every_operation_and_every_edge_is_a_setting_of_its_own() -> None:
    asked: list[str] = []

    def choose(dimension: Dimension) -> Any:
        asked.append(dimension.name)
        return dimension.options[0]

    pick(read({"data": {}, "arch": space("image", 2, ["conv3", "max"])}), choose)
    names = ["operations.1", "operations.2", "edges.2.1", "edges.2.2", "edges.3.1", "edges.3.2", "edges.3.3"]
    assert asked == [f"arch.cell.{name}" for name in names]


def test_an_operation_of_another_kind_is_refused() -> None:
    with pytest.raises(SpecError, match=r"'conv3' is no operation on a table.*Known there: relu"):
        body(Cell(operations=("conv3",), edges=((1,), (0, 1))), "table")
    with pytest.raises(SpecError, match="'tanh' is no operation on a sequence"):
        space("sequence", 2, ["tanh"])
    with pytest.raises(UnknownName, match="image"):
        space("images")


@pytest.mark.parametrize(
    "wrong", [{"operations": [{"any": ["conv3", "conv9"]}]}, {"edges": [[1], [1, {"any": [0, 2]}]]}]
)
def test_what_a_range_within_a_list_may_not_hold_is_refused_before_any_work(wrong: dict[str, Any]) -> None:
    with pytest.raises(OutOfBounds, match=r"arch\.cell"):
        check(read({"data": {"method": "builtin", "name": "digits"}, "arch": {"method": "cell", **wrong}}))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("join", ["add", "concat"])
def test_cutting_channels_that_are_zero_changes_no_answer(kind: str, join: str) -> None:
    names = {"table": ["relu"], "image": ["conv3", "separable3", "max"], "sequence": ["conv5", "separable3", "average"]}
    for seed in range(4):
        network = body(picked(space(kind, 3, names[kind], {"join": join, "width": 6, "stages": 2}), seed), kind)
        for group in channels(network):
            for module in (*group.makers, *group.norms):
                with torch.no_grad():
                    module.weight[:3] = 0
                    if module.bias is not None:
                        module.bias[:3] = 0
        before = network(rows(kind))
        assert prune(network, lambda group: group.width - 3, "l2")
        assert torch.allclose(network(rows(kind)), before, atol=1e-5)
