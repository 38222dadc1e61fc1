"""Follows channels through our own networks: which layers write, norm and read the same ones.

A module kind is one small function here: it takes the module, the channels that come in, the walk and the path, tells
the channels who touches them, and gives the channels that come out. `FOLLOWERS` lists them by exact type, so that a
subclass with a forward of its own is refused and not misread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from modelmill.errors import ModelError
from modelmill.network.attention import Attention, Pooled, Tokens
from modelmill.network.blocks import Excited, Residual, Shared, Widened
from modelmill.network.graphbody import Graph
from modelmill.network.mixture import Mixture

ACTIVE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.ELU, nn.Hardswish),
    *(nn.Hardtanh, nn.Hardsigmoid, nn.Softplus),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d),
)
"""What follows a map: activations and dropout."""

IDLE = (
    *ACTIVE,
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Flatten, nn.Identity, nn.Softmax),
    *(nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d),
)
"""Modules through which a channel stays itself."""


@dataclass(eq=False)
class Channels:
    """Channels that go together: whoever writes, norms or reads them is cut alike."""

    width: int
    fixed: bool = False
    """Whether they cannot be cut: inputs and outputs of the network."""
    makers: list[nn.Module] = field(default_factory=list)
    """Layers that write them; depthwise convolutions read and write them."""
    norms: list[nn.Module] = field(default_factory=list)
    takers: list[nn.Module] = field(default_factory=list)
    joined: Channels | None = None

    def root(self) -> Channels:
        """The channels that these were joined with."""
        return self if self.joined is None else self.joined.root()

    def join(self, other: Channels) -> Channels:
        """Tie channels that are added to each other."""
        mine, theirs = self.root(), other.root()
        if mine is not theirs:
            mine.fixed = mine.fixed or theirs.fixed
            for name in ("makers", "norms", "takers"):
                getattr(mine, name).extend(getattr(theirs, name))
            theirs.joined = mine
        return mine


@dataclass
class Walk:
    """One way through a network, with what was met on it."""

    found: list[Channels] = field(default_factory=list)
    seen: dict[int, tuple[Channels, Channels]] = field(default_factory=dict)
    """By the id of a module with weights, what came into it and what came out: a shared one is met again."""

    def follow(self, module: nn.Module, given: Channels, path: str) -> Channels:
        """The channels that come out of a module. Raises ModelError, naming it, where they cannot be followed."""
        follower = FOLLOWERS.get(type(module))
        if follower is None:
            what = f"channels cannot be followed through {type(module).__name__}"
            raise ModelError(path, what, "Leave this step out.")
        return follower(module, given.root(), self, path)

    def again(self, module: nn.Module, given: Channels) -> Channels | None:
        """What came out of a module when it was met before, its inputs then and now tied; None for a new one."""
        if id(module) not in self.seen:
            return None
        before, made = self.seen[id(module)]
        before.join(given)
        return made.root()


Follower = Callable[[Any, Channels, Walk, str], Channels]


def channels(network: nn.Module) -> list[Channels]:
    """All channels of a network that can be cut and are read, in the order in which they are written.

    Raises ModelError, naming the module, for a network with modules that we do not know.
    """
    walk = Walk()
    last = walk.follow(network, Channels(width=-1, fixed=True), "body")
    last.root().fixed = True
    return [group for group in walk.found if group.joined is None and not group.fixed and group.takers]


def _sequential(module: nn.Sequential, given: Channels, walk: Walk, path: str) -> Channels:
    for name, child in module._modules.items():  # named_children would skip a block that comes again
        given = walk.follow(child, given, f"{path}.{name}")
    return given


def _residual(module: Residual, given: Channels, walk: Walk, path: str) -> Channels:
    inner = walk.follow(module.body, given, f"{path}.body")
    side = walk.follow(module.shortcut, given, f"{path}.shortcut")
    return walk.follow(module.after, inner.join(side), f"{path}.after")


def _excited(module: Excited, given: Channels, walk: Walk, path: str) -> Channels:
    """What multiplies channels goes with them."""
    return given.join(walk.follow(module.gate, given, f"{path}.gate"))


def _closed(module: nn.Module, given: Channels, walk: Walk, path: str) -> Channels:
    """Channels before and behind it stay."""
    given.fixed = True
    return Channels(width=-1, fixed=True)


def _shared(module: Shared, given: Channels, walk: Walk, path: str) -> Channels:
    return walk.follow(module.layer, given, path)


def _graph(module: Graph, given: Channels, walk: Walk, path: str) -> Channels:
    """Through a cell; channels that it lays side by side stay as they are."""
    values = [given]
    for number, (node, row) in enumerate(zip(module.nodes, module.reads[:-1], strict=True)):
        values.append(walk.follow(node, _joined([values[i] for i in row]), f"{path}.nodes.{number}"))
    last = [values[i].root() for i in module.reads[-1]]
    if module.mix is None:
        return _joined(last)
    for value in last:
        value.fixed = True
    return walk.follow(module.mix, Channels(width=-1, fixed=True), f"{path}.mix")


def _mixture(module: Mixture, given: Channels, walk: Walk, path: str) -> Channels:
    """Through every member by itself; their outputs are averaged, and stay."""
    said = [walk.follow(member, given, f"{path}.members.{number}") for number, member in enumerate(module.members)]
    last = _joined(said)
    last.fixed = True
    return last


def _joined(values: Sequence[Channels]) -> Channels:
    first = values[0].root()
    for value in values[1:]:
        first = first.join(value)
    return first


def _weighted(module: nn.Linear | nn.Conv1d | nn.Conv2d, given: Channels, walk: Walk, path: str) -> Channels:
    if (before := walk.again(module, given)) is not None:
        return before
    width, groups = int(module.weight.shape[0]), int(getattr(module, "groups", 1))
    if groups > 1 and groups == width == given.width:
        given.makers.append(module)
        walk.seen[id(module)] = (given, given)
        return given
    made = Channels(width, fixed=groups > 1, makers=[module])
    given.fixed = given.fixed or groups > 1
    given.takers.append(module)
    walk.found.append(made)
    walk.seen[id(module)] = (given, made)
    return made


def _norm(module: nn.BatchNorm1d | nn.BatchNorm2d, given: Channels, walk: Walk, path: str) -> Channels:
    if (before := walk.again(module, given)) is not None:
        return before
    given.norms.append(module)
    walk.seen[id(module)] = (given, given)
    return given


def _idle(module: nn.Module, given: Channels, walk: Walk, path: str) -> Channels:
    return given


FOLLOWERS: dict[type[nn.Module], Follower] = {
    nn.Sequential: _sequential,
    Residual: _residual,
    Shared: _shared,
    Excited: _excited,
    **dict.fromkeys((Widened, Tokens, Attention, nn.LayerNorm), _closed),
    Pooled: _idle,
    Graph: _graph,
    Mixture: _mixture,
    **dict.fromkeys((nn.Linear, nn.Conv1d, nn.Conv2d), _weighted),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d), _norm),
    **dict.fromkeys(IDLE, _idle),
}
"""What follows channels through each kind of module."""
