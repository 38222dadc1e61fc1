"""Recurrent network: the body for sequences, which it reads step by step."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from modelmill.contracts import Arch
from modelmill.errors import SpecError
from modelmill.model import Kind
from modelmill.signature import Signature


class Rnn(Arch):
    """Layers of recurrent units, each reading what the one before said at every step.

    The body is one flat `nn.Sequential` of `depth` `Recurrent`s of `network/recurrent.py`, `Dropout` (where asked for)
    behind each, and a `Linear`. By head "last" it is told what the units know at the end of their ways; by "average"
    what they said on average. All sequences have the length that they were trained with.

    Cho et al. (2014), https://arxiv.org/abs/1406.1078; Hochreiter & Schmidhuber (1997),
    https://doi.org/10.1162/neco.1997.9.8.1735
    """

    unit: Literal["gru", "lstm", "plain"] = "gru"
    """What a step is read by: gated units, which remember for longer, or a tanh of sums."""
    width: Annotated[int, Meta(ge=1, le=2048)] = 32
    """Numbers that are remembered, in each direction."""
    depth: Annotated[int, Meta(ge=1, le=8)] = 1
    """Layers of units."""
    both: bool = False
    """Whether sequences are read backwards, too, by units of their own."""
    head: Literal["last", "average"] = "last"
    """Whether the end of the way counts, or the mean of all steps."""
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Fraction of what a layer says that is dropped while training."""

    body: ClassVar[Kind] = "network"
    kinds: ClassVar[frozenset[str]] = frozenset({"sequence"})
    tasks: ClassVar[frozenset[str]] = frozenset({"classify", "regress"})

    def __call__(self, signature: Signature, features: tuple[int, ...], seed: int) -> Any:
        """An `nn.Sequential` from (batch, channels, steps) to (batch, outputs)."""
        from modelmill.network.blocks import outputs, seeded

        if len(features) != 2:
            wanted = "it takes sequences of (channels, steps)"
            raise SpecError("arch.rnn", f"features have the shape {features}; {wanted}", "Try the arch mlp.")
        return seeded(lambda: self._body(features[0], outputs(signature)), seed)

    def _body(self, given: int, outputs: int) -> Any:
        from torch import nn

        from modelmill.network.recurrent import Recurrent

        layers: list[nn.Module] = []
        made = self.width * (2 if self.both else 1)
        for layer in range(self.depth):
            last = self.head == "last" and layer == self.depth - 1
            layers.append(Recurrent(given, self.width, self.unit, both=self.both, last=last))
            layers += [nn.Dropout(self.dropout)] if self.dropout else []
            given = made
        layers += [nn.AdaptiveAvgPool1d(1), nn.Flatten()] if self.head == "average" else []
        return nn.Sequential(*layers, nn.Linear(made, outputs))
