"""How many channels a module of our own networks gives, of so many that come in."""

from __future__ import annotations

from torch import nn

from modelmill.network.attention import Tokens
from modelmill.network.blocks import Residual, Shared, Widened
from modelmill.network.graphbody import Graph
from modelmill.network.recurrent import Recurrent


def passed(module: nn.Module, given: int) -> int:
    """The channels behind a module that takes `given` of them; what has no weights of its own gives as many.

    >>> passed(nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU()), 3)
    8
    """
    match module:
        case nn.Linear() | nn.Conv1d() | nn.Conv2d():
            return int(module.weight.shape[0])
        case Tokens():
            return int(module.place.shape[1])
        case Recurrent():
            return int(module.unit.hidden_size) * (2 if module.unit.bidirectional else 1)
        case Widened():
            return given + module.more
        case Shared():
            return passed(module.layer, given)
        case Residual():
            return passed(module.body, given)
        case nn.Sequential():
            return ways(module, given)[-1]
        case Graph():
            return _cell(module, given)
    return given


def ways(network: nn.Sequential, given: int) -> list[int]:
    """The channels in front of every child of a network, and last those that it gives.

    >>> ways(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)), 3)
    [3, 8, 8, 2]
    """
    found = [given]
    for child in network._modules.values():  # children() would skip a block that comes again
        found.append(passed(child, found[-1]))
    return found


def _cell(cell: Graph, given: int) -> int:
    """What a cell gives: values that are added are as wide as each other."""
    values = [given]
    for node, row in zip(cell.nodes, cell.reads[:-1], strict=True):
        values.append(passed(node, values[row[0]]))
    last = [values[i] for i in cell.reads[-1]]
    return last[0] if cell.mix is None else passed(cell.mix, sum(last))
