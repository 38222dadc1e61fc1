"""Networks of cells: small graphs of operations, repeated over stages; what an architecture search looks through."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta

from modelmill.contracts import Arch
from modelmill.errors import SpecError, UnknownName
from modelmill.model import Kind
from modelmill.network.wiring import Wiring, flags, wiring
from modelmill.network.wiring_repair import canonical
from modelmill.signature import Signature

if TYPE_CHECKING:
    from torch import nn

ON_GRIDS = ("conv3", "conv1", "conv5", "separable3", "separable5", "max", "average", "identity")

OPERATIONS: dict[str, tuple[str, ...]] = {
    "table": ("relu", "silu", "gelu", "tanh", "identity"),
    "image": ON_GRIDS,
    "sequence": (*ON_GRIDS, "dilated3", "gru"),
}
"""What nodes may do, by the kind of features. `relu` and its like are a linear map, a batch norm and that function;
convolutions end in a batch norm and a ReLU; `separable` ones look at every channel by itself first."""

PLAIN = "plain"
"""Stands for the first operation of a kind that is not yet known."""

KINDS = {1: "table", 2: "sequence", 3: "image"}
"""The kind of features by the axes of a row."""

Operation = Literal[
    "relu",
    "silu",
    "gelu",
    "tanh",
    "conv3",
    "conv1",
    "conv5",
    "dilated3",
    "separable3",
    "separable5",
    "gru",
    "max",
    "average",
    "identity",
]
Flags = tuple[Literal[0, 1], ...]


class Cell(Arch):
    """A graph of operations, repeated: `depth` cells a stage, every later stage half as large and `growth` as wide.

    Node i reads value j where `edges[i][j]` is 1: value 0 is what comes into the cell, value j what node j makes; the
    last row is the output's. What is read is added. Any such flags are a network: a node that reads nothing reads what
    comes in, the output reads what nobody else does, identities pass on what they read, and a value that arrives by
    several ways counts once.

    The body is a `Sequential`: the stem (a convolution of 3, or a linear map), then `Graph`s of `network/graphbody.py`
    with a convolution of 3 and stride 2 before each later stage, then the head.

    Ying et al. (2019), https://arxiv.org/abs/1902.09635; Zoph et al. (2018), https://arxiv.org/abs/1707.07012
    """

    kind: Literal["auto", "table", "image", "sequence"] = "auto"
    """What features are taken for; "auto" takes images for images, and all else for a table."""
    operations: Annotated[tuple[Operation, ...], Meta(max_length=64)] = ()
    """What every node does; where none are named, all do the first that their kind of features knows."""
    edges: Annotated[tuple[Flags, ...], Meta(max_length=65)] = ((1,), (0, 1), (1, 0, 1))
    """For every node, and last the output, which of the earlier values it reads: a 1 or 0 each."""
    most: Annotated[int, Meta(ge=0)] = 0
    """Edges that a cell keeps at most, shortcuts going first; 0 is no limit."""
    join: Literal["add", "concat"] = "add"
    """Whether what the output reads is added, or laid side by side and brought back to the width."""
    width: Annotated[int, Meta(ge=1, le=8192)] = 16
    """Channels, or neurons, of the first stage."""
    depth: Annotated[int, Meta(ge=1, le=32)] = 1
    """Cells of every stage."""
    stages: Annotated[int, Meta(ge=1, le=6)] = 2
    """Stages; each after the first halves images and sequences."""
    growth: Annotated[float, Meta(gt=0, le=4)] = 1.5
    """How many times as wide a stage is as the one before."""
    stride: Annotated[int, Meta(ge=0, le=4)] = 0
    """Stride of the stem; 0 takes 2 for images and sequences of 16 and more, else 1."""
    head: Literal["average", "flatten"] = "average"
    """Whether the last image or sequence is averaged to one number a channel, or looked at as it is."""
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Fraction of the last features that is dropped while training."""

    body: ClassVar[Kind] = "network"
    kinds: ClassVar[frozenset[str]] = frozenset({"table", "image", "sequence"})
    tasks: ClassVar[frozenset[str]] = frozenset({"classify", "regress"})

    def __call__(self, signature: Signature, features: tuple[int, ...], seed: int) -> Any:
        """An `nn.Sequential` from (batch, *features) to (batch, outputs)."""
        from modelmill.network.blocks import outputs, seeded

        kind = KINDS[len(features)]
        cell = self._wiring(OPERATIONS[kind][0])
        _check(cell.operations, kind)
        return seeded(lambda: self._body(cell, kind, features, outputs(signature)), seed)

    def canonical(self) -> Mapping[str, Any]:
        """The table of the one form that all settings of the same network share, without what is at its default."""
        cell, usual = self._wiring(OPERATIONS[self.kind][0] if self.kind in OPERATIONS else PLAIN), type(self)()
        same: dict[str, Any] = {
            "operations": () if PLAIN in cell.operations else cell.operations,
            "edges": flags(cell),
            "most": usual.most,
            "join": self.join if len(cell.reads[-1]) > 1 else usual.join,
            "depth": self.depth if cell.operations else usual.depth,
            "growth": self.growth if self.stages > 1 else usual.growth,
            "stride": usual.stride if self.kind == "table" else self.stride,
            "head": usual.head if self.kind == "table" else self.head,
        }
        default = usual.as_table()
        table = self.replace(**same).as_table()
        return {name: value for name, value in table.items() if name == "method" or value != default[name]}

    def _wiring(self, first: str) -> Wiring:
        """The cell in its canonical form; `first` is what nodes do where no operations are named."""
        operations = self.operations or (first,) * (len(self.edges) - 1)
        return canonical(wiring(operations, self.edges), self.most)

    def _body(self, cell: Wiring, kind: str, features: tuple[int, ...], outputs: int) -> Any:
        from torch import nn

        from modelmill.network.graphbody import graph, plain

        stride = 1 if kind == "table" else self.stride or (2 if min(features[1:]) >= 16 else 1)
        layers: list[nn.Module] = []
        given, size = features[0], features[1:]
        for stage in range(self.stages):
            width = max(1, round(self.width * self.growth**stage))
            layers += plain(kind, given, width, stride)
            given, size, stride = width, tuple(-(-n // stride) for n in size), 2
            layers += [graph(cell, kind, width, self.join) for _ in range(self.depth) if cell.operations]
        return nn.Sequential(*layers, *self._head(kind, given, size, outputs))

    def _head(self, kind: str, width: int, size: tuple[int, ...], outputs: int) -> list[nn.Module]:
        from torch import nn

        dropped = [nn.Dropout(self.dropout)] if self.dropout else []
        if kind == "table":
            return [*dropped, nn.Linear(width, outputs)]
        if self.head == "flatten":
            return [nn.Flatten(), *dropped, nn.Linear(width * math.prod(size), outputs)]
        pool = nn.AdaptiveAvgPool2d(1) if kind == "image" else nn.AdaptiveAvgPool1d(1)
        return [pool, nn.Flatten(), *dropped, nn.Linear(width, outputs)]


def space(
    kind: str, nodes: int = 3, operations: Sequence[str] = (), settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The table of a spec's `arch` with every node's operation and every edge left open.

    kind: "table", "image" or "sequence". operations: those to choose from, all of the kind where none are named.
    settings: values or ranges of the other settings, in place of their defaults.

    >>> space("table", nodes=1, operations=["relu", "identity"])["edges"]
    [[1], [{'any': [0, 1]}, {'any': [0, 1]}]]
    """
    if kind not in OPERATIONS:
        raise UnknownName.among("arch.cell.kind", "kind of features", kind, OPERATIONS)
    chosen = list(operations or OPERATIONS[kind])
    _check(chosen, kind)
    return {
        "method": "cell",
        "kind": kind,
        "operations": [{"any": chosen} for _ in range(nodes)],
        "edges": [[1], *([{"any": [0, 1]} for _ in range(row + 1)] for row in range(1, nodes + 1))],
        **(settings or {}),
    }


def _check(operations: Sequence[str], kind: str) -> None:
    for name in operations:
        if name not in OPERATIONS[kind]:
            known = f"Known there: {', '.join(OPERATIONS[kind])}."
            raise SpecError("arch.cell.operations", f"{name!r} is no operation on a {kind}", known)
