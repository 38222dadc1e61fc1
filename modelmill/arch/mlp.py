"""Fully connected network: the body for tables, and for images that are small."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from modelmill.contracts import Arch
from modelmill.model import Kind
from modelmill.signature import Signature


class Mlp(Arch):
    """Hidden layers of equal width, each a linear map, a batch norm and an activation.

    The body is one `nn.Sequential`: `Flatten` (for images only), then `depth` times `Linear`, `BatchNorm1d` (with
    `norm`), the activation, `Dropout` (with `dropout`), and last the `Linear` to the outputs. Nothing else, so that it
    can be sliced: outputs of a hidden `Linear` are inputs of the next one, with the batch norm between.

    Rumelhart, Hinton and Williams (1986), https://doi.org/10.1038/323533a0
    """

    depth: Annotated[int, Meta(ge=0, le=16)] = 2
    """Hidden layers; with none it is a linear model."""
    width: Annotated[int, Meta(ge=1, le=8192)] = 64
    """Neurons of every hidden layer."""
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Fraction of a hidden layer's outputs that is dropped while training."""
    norm: bool = True
    """Whether a batch norm follows every hidden linear map; it is folded away when the model is written."""
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    """What follows every hidden linear map."""

    body: ClassVar[Kind] = "network"
    kinds: ClassVar[frozenset[str]] = frozenset({"table", "image"})
    tasks: ClassVar[frozenset[str]] = frozenset({"classify", "regress"})

    def __call__(self, signature: Signature, features: tuple[int, ...], seed: int) -> Any:
        """An `nn.Sequential` from (batch, *features) to (batch, outputs)."""
        from modelmill.network.blocks import outputs, seeded

        return seeded(lambda: self._body(features, outputs(signature)), seed)

    def _body(self, features: tuple[int, ...], outputs: int) -> Any:
        from torch import nn

        from modelmill.network.blocks import activation

        layers: list[Any] = [nn.Flatten()] if len(features) > 1 else []
        given = math.prod(features)
        for _ in range(self.depth):
            layers.append(nn.Linear(given, self.width))
            layers += [nn.BatchNorm1d(self.width)] if self.norm else []
            layers.append(activation(self.activation))
            layers += [nn.Dropout(self.dropout)] if self.dropout else []
            given = self.width
        return nn.Sequential(*layers, nn.Linear(given, outputs))
