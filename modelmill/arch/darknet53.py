"""Darknet-53, the network behind YOLOv3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta

from modelmill.contracts import Arch
from modelmill.errors import SpecError
from modelmill.model import Kind
from modelmill.signature import Signature

if TYPE_CHECKING:
    from torch import nn


class Darknet53(Arch):
    """Fifty-two convolutions and a linear classifier, with shortcuts past every two; deep, and dear to train.

    A 3x3 convolution, then a stage for every number of `blocks`: a 3x3 convolution of stride 2 that doubles the
    channels, and residual blocks of a 1x1 convolution to half of them and a 3x3 one back. Every convolution is followed
    by a batch norm and a leaky ReLU of 0.1, the sum of a block by nothing. The last image is averaged. With three
    channels and 1,000 classes it has 41,609,928 parameters. Images may have any size: it was made for 256 pixels.

    It asks for label smoothing of 0.1 where the training says nothing of it.

    Redmon & Farhadi (2018), https://arxiv.org/abs/1804.02767, table 1
    """

    width: Annotated[int, Meta(ge=2, le=256)] = 32
    """Channels of the first convolution; every stage has twice as many as the one before."""
    blocks: Annotated[tuple[Annotated[int, Meta(ge=0, le=64)], ...], Meta(min_length=1, max_length=8)] = (1, 2, 8, 8, 4)
    """Residual blocks of every stage."""

    body: ClassVar[Kind] = "network"
    kinds: ClassVar[frozenset[str]] = frozenset({"image"})
    tasks: ClassVar[frozenset[str]] = frozenset({"classify", "regress"})

    def __call__(self, signature: Signature, features: tuple[int, ...], seed: int) -> Any:
        """An `nn.Sequential` from (batch, channels, height, width) to (batch, outputs)."""
        from modelmill.network.blocks import outputs, seeded

        if len(features) != 3:
            wanted = "it takes images of (channels, height, width)"
            raise SpecError("arch.darknet53", f"features have the shape {features}; {wanted}", "Try the arch mlp.")
        return seeded(lambda: self._body(features[0], outputs(signature)), seed)

    def asks(self) -> Mapping[str, Mapping[str, Any]]:
        """Label smoothing."""
        return {"train": {"smoothing": 0.1}}

    def _body(self, channels: int, outputs: int) -> Any:
        from torch import nn

        layers = _mapped(channels, self.width, 3)
        width = self.width
        for count in self.blocks:
            layers += _mapped(width, 2 * width, 3, 2)
            width *= 2
            layers += [_block(width) for _ in range(count)]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, outputs))


def _mapped(given: int, made: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    from torch import nn

    from modelmill.network.blocks import convolved

    return convolved(given, made, kernel, stride, after=[nn.LeakyReLU(0.1)])


def _block(width: int) -> nn.Module:
    from torch import nn

    from modelmill.network.blocks import Residual

    body = nn.Sequential(*_mapped(width, width // 2, 1), *_mapped(width // 2, width, 3))
    return Residual(body, nn.Identity(), nn.Identity())
