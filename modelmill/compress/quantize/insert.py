"""Puts grids into a network: its weights rounded, and its activations wherever integers should flow."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn

from modelmill.graph.layers import IDLE, name_of
from modelmill.network.blocks import Residual
from modelmill.network.graphbody import Graph
from modelmill.network.steps import Capped, Rounded, Stepped

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d)
FUSED = (nn.ReLU, nn.ReLU6, nn.Hardtanh)
"""Activations that cost nothing behind a sum of integers: they are where its grid ends."""
ACTIVATIONS = (*FUSED, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Hardswish)
MOVING = (nn.MaxPool1d, nn.MaxPool2d, nn.Flatten)
"""What gives numbers of the grid that it is given."""
POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)

Grid = Rounded | Capped


def folded(network: nn.Module) -> nn.Module:
    """A copy of the network in evaluation, with the batch norms that follow a weighted layer taken into it."""
    network = copy.deepcopy(network).eval()
    for module in [*network.modules()]:
        if isinstance(module, nn.Sequential):
            _fold(module)
    return network


def _fold(sequence: nn.Sequential) -> None:
    names = [name for name, child in sequence.named_children() if name_of(child) not in IDLE]
    for first, second in pairwise(names):
        layer, norm = sequence._modules[first], sequence._modules[second]
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and norm.running_mean is not None:
            if isinstance(layer, nn.Linear):
                sequence._modules[first] = nn.utils.fusion.fuse_linear_bn_eval(layer, norm)
            elif isinstance(layer, nn.Conv1d | nn.Conv2d):
                sequence._modules[first] = nn.utils.fusion.fuse_conv_bn_eval(layer, norm)
            else:
                continue
            sequence._modules[second] = nn.Identity()


def layers(network: nn.Module, smallest: int) -> list[nn.Module]:
    """The layers whose weights are worth rounding, of those that can be reached, in the order in which they run."""
    found: list[nn.Module] = []
    _Walk(lambda: Rounded(8), lambda layer: layer, smallest, found).module(network, False, True)
    return found


def beyond(network: nn.Module, found: Sequence[nn.Module], smallest: int) -> list[str]:
    """The names of layers whose weights are worth rounding, and that were not reached."""
    return [
        name or type(module).__name__
        for name, module in network.named_modules()
        if isinstance(module, WEIGHTED)
        and module.weight.numel() >= smallest
        and all(module is not one for one in found)
    ]


def inserted(
    network: nn.Module, grid: Callable[[], Grid], layer: Callable[[nn.Module], Stepped], smallest: int
) -> nn.Module:
    """The network with `layer` of every weighted layer and a new `grid` wherever integers should flow.

    Its own modules are used, not copied. Grids lie before and behind every rounded layer, behind sums and behind means;
    what the network answers is on none.
    """
    return _Walk(grid, layer, smallest, []).module(network, False, True)[0]


class _Walk:
    """One way through a network; a module is rebuilt with what comes in on a grid or not, and ends it or not."""

    def __init__(
        self,
        grid: Callable[[], Grid],
        layer: Callable[[nn.Module], nn.Module],
        smallest: int,
        found: list[nn.Module],
    ) -> None:
        self.grid, self.layer, self.smallest, self.found = grid, layer, smallest, found

    def module(self, module: nn.Module, ready: bool, ends: bool) -> tuple[nn.Module, bool]:
        """The module rebuilt, and whether what it gives is on a grid."""
        if isinstance(module, nn.Sequential):
            return self._sequence(module, ready, ends)
        if isinstance(module, Residual):
            body, _ = self.module(module.body, ready, False)
            shortcut, _ = self.module(module.shortcut, ready, False)
            after = nn.Sequential(module.after) if ends else nn.Sequential(module.after, self.grid())
            return Residual(body, shortcut, after), not ends
        if isinstance(module, Graph):
            return self._graph(module, ready), False
        if self._heavy(module):
            self.found.append(module)
            made = [self.layer(module)] if ready else [self.grid(), self.layer(module)]
            return nn.Sequential(*made), False
        return module, ready and isinstance(module, MOVING)

    def _sequence(self, sequence: nn.Sequential, ready: bool, ends: bool) -> tuple[nn.Module, bool]:
        children, made = _flat(sequence), []
        for place, child in enumerate(children):
            last = ends and not any(map(_weighted, children[place + 1 :]))
            summed = self._heavy(child) or (place > 0 and self._heavy(children[place - 1]))
            following = children[place + 1] if place + 1 < len(children) else None
            before = ready
            rebuilt, ready = self.module(child, ready, last)
            made.append(rebuilt)
            if not last and not ready and (before or summed) and self._closes(child, following):
                made.append(self.grid())
                ready = True
        return nn.Sequential(*made), ready

    def _heavy(self, module: nn.Module) -> bool:
        return isinstance(module, WEIGHTED) and module.weight.numel() >= self.smallest

    def _closes(self, child: nn.Module, following: nn.Module | None) -> bool:
        """Whether a grid belongs behind a child: not between a sum and an activation that the sum can take in.

        The sums of a linear layer stay floats for any activation; those of a convolution must be on a grid.
        """
        if self._heavy(child):
            return not isinstance(following, FUSED if not isinstance(child, nn.Linear) else ACTIVATIONS)
        return isinstance(child, ACTIVATIONS + POOLS)

    def _graph(self, module: Graph, ready: bool) -> Graph:
        """Sums of several values are on no grid; one value alone is where what is read is."""
        on, nodes = [ready], []
        for node, row in zip(module.nodes, module.reads[:-1], strict=True):
            made, after = self.module(node, len(row) == 1 and on[row[0]], False)
            nodes.append(made)
            on.append(after)
        mix = None if module.mix is None else self.module(module.mix, False, False)[0]
        return Graph(nodes, module.reads, mix)


def _flat(sequence: nn.Sequential) -> list[nn.Module]:
    """The children, those of Sequentials within in their place, without what does nothing in evaluation."""
    found: list[nn.Module] = []
    for child in sequence.children():
        if isinstance(child, nn.Sequential):
            found += _flat(child)
        elif name_of(child) not in IDLE:
            found.append(child)
    return found


def _weighted(module: nn.Module) -> bool:
    return any(isinstance(child, WEIGHTED) for child in module.modules())


def grids(network: nn.Module) -> list[Grid]:
    """The grids of activations in a network."""
    return [module for module in network.modules() if isinstance(module, Rounded | Capped)]


def stepped(network: nn.Module) -> list[Stepped]:
    """The rounded layers of a network."""
    return [module for module in network.modules() if isinstance(module, Stepped)]
