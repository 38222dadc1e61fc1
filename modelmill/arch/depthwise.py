"""Depthwise CNN: the body for images where multiply-adds are dear, in the shape of MobileNets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta

from modelmill.contracts import Arch
from modelmill.errors import SpecError
from modelmill.model import Kind
from modelmill.signature import Signature

if TYPE_CHECKING:
    from torch import nn


class Depthwise(Arch):
    """Stages of convolutions that look at every channel by itself, and mix channels pixel by pixel.

    The body is one flat `nn.Sequential`: the stem, then the blocks of every stage, then the last image averaged, and a
    `Linear`. With `expand` a block widens the channels (1x1), looks at each (`kernel`), and brings them back (1x1,
    without an activation); it adds its input where shapes agree. With `expand = 0` it is a depthwise and a 1x1
    convolution. The first block of a later stage has stride 2. Few multiply-adds are not always fast: measure.

    Howard et al. (2017), https://arxiv.org/abs/1704.04861; Sandler et al. (2018), https://arxiv.org/abs/1801.04381;
    Howard et al. (2019), https://arxiv.org/abs/1905.02244
    """

    width: Annotated[int, Meta(ge=1, le=1024)] = 16
    """Channels of the first stage."""
    depth: Annotated[int, Meta(ge=1, le=6)] = 3
    """Stages; each after the first halves the image."""
    blocks: Annotated[int, Meta(ge=1, le=8)] = 2
    """Blocks of every stage."""
    growth: Annotated[float, Meta(ge=1, le=4)] = 2.0
    """How many times wider the channels of a stage are than those of the stage before."""
    expand: Annotated[int, Meta(ge=0, le=8)] = 2
    """How many times as wide a block is inside; 0 is a plain depthwise-separable convolution."""
    squeeze: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Squeeze and excitation: the share of a block's inner channels that say how much each matters; 0 is off."""
    kernel: Literal[3, 5, 7] = 3
    """Side of the depthwise convolutions, in pixels."""
    stride: Annotated[int, Meta(ge=0, le=4)] = 0
    """Stride of the stem; 0 takes 2 for images of 16 pixels and more, else 1."""
    activation: Literal["relu", "hardswish"] = "relu"
    """What follows convolutions."""
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Fraction of the last features that is dropped while training."""

    body: ClassVar[Kind] = "network"
    kinds: ClassVar[frozenset[str]] = frozenset({"image"})
    tasks: ClassVar[frozenset[str]] = frozenset({"classify", "regress"})

    def __call__(self, signature: Signature, features: tuple[int, ...], seed: int) -> Any:
        """An `nn.Sequential` from (batch, channels, height, width) to (batch, outputs)."""
        from modelmill.network.blocks import outputs, seeded

        if len(features) != 3:
            wanted = "it takes images of (channels, height, width)"
            raise SpecError("arch.depthwise", f"features have the shape {features}; {wanted}", "Try the arch mlp.")
        return seeded(lambda: self._body(features, outputs(signature)), seed)

    def _body(self, features: tuple[int, ...], outputs: int) -> Any:
        from torch import nn

        stride = self.stride or (2 if min(features[1:]) >= 16 else 1)
        layers = self._conv(features[0], self.width, 3, stride)
        given = self.width
        for stage in range(self.depth):
            made = round(self.width * self.growth**stage)
            for block in range(self.blocks):
                stride = 2 if stage and not block else 1
                layers += self._inverted(given, made, stride) if self.expand else self._separable(given, made, stride)
                given = made
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *([nn.Dropout(self.dropout)] if self.dropout else [])]
        return nn.Sequential(*layers, nn.Linear(given, outputs))

    def _conv(self, given: int, made: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
        from modelmill.network.blocks import activation, convolved

        return convolved(given, made, kernel, stride, groups=groups, after=[activation(self.activation)])

    def _deep(self, width: int, stride: int) -> list[nn.Module]:
        """Every channel by itself, and how much each matters."""
        from modelmill.network.blocks import Excited

        layers = self._conv(width, width, self.kernel, stride, width)
        return [*layers, Excited(width, max(1, round(self.squeeze * width)))] if self.squeeze else layers

    def _separable(self, given: int, made: int, stride: int) -> list[nn.Module]:
        return [*self._deep(given, stride), *self._conv(given, made, 1)]

    def _inverted(self, given: int, made: int, stride: int) -> list[nn.Module]:
        from torch import nn

        from modelmill.network.blocks import Residual, convolved

        inner = self.expand * given
        layers = [*self._conv(given, inner, 1), *self._deep(inner, stride), *convolved(inner, made, 1)]
        same = given == made and stride == 1
        return [Residual(nn.Sequential(*layers), nn.Identity(), nn.Identity())] if same else layers
