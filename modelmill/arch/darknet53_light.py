"""A light relative of Darknet-53: convolutions are taken apart, and the image is small early."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta

from modelmill.contracts import Arch
from modelmill.errors import SpecError
from modelmill.model import Kind
from modelmill.signature import Signature

if TYPE_CHECKING:
    from torch import nn


class Darknet53Light(Arch):
    """Residual stages of depthwise-separable convolutions behind a wide stem; an eighth of Darknet-53's parameters.

    A 7x7 convolution of stride 2, max pooling, then a stage for every number of `blocks`, each twice as wide as the one
    before; later stages halve the image. A block is two depthwise-separable convolutions (3x3 on every channel by
    itself, then 1x1) and adds its input to its output; where a stage begins, its input is subsampled and filled up with
    channels of zeros, so that shortcuts have no weights. Every convolution is followed by a batch norm and a leaky ReLU
    of 0.1. With three channels the convolutions have 5,259,264 weights; norms aside, 5,772,264 with 1,000 classes.

    For small images take a smaller stem: `kernel = 3`, `stride = 1`, `pool = false` for 28 pixels. It asks for label
    smoothing of 0.1 where the training says nothing of it.

    Related: Redmon & Farhadi (2018), https://arxiv.org/abs/1804.02767; Howard et al. (2017),
    https://arxiv.org/abs/1704.04861
    """

    width: Annotated[int, Meta(ge=1, le=256)] = 32
    """Channels of the stem; every stage has twice as many as the one before."""
    blocks: Annotated[tuple[Annotated[int, Meta(ge=1, le=64)], ...], Meta(min_length=1, max_length=8)] = (1, 2, 8, 8)
    """Residual blocks of every stage."""
    kernel: Literal[3, 5, 7] = 7
    """Side of the stem's convolution, in pixels."""
    stride: Annotated[int, Meta(ge=1, le=4)] = 2
    """Stride of the stem's convolution."""
    pool: bool = True
    """Whether max pooling halves the image behind the stem."""
    shared: bool = False
    """Whether the blocks of a stage, but for the first, use the same convolutions, each with norms of its own."""
    binary: bool = False
    """Whether every class is taught as a yes or no of its own, with smoothed labels, and not one of all."""

    body: ClassVar[Kind] = "network"
    kinds: ClassVar[frozenset[str]] = frozenset({"image"})
    tasks: ClassVar[frozenset[str]] = frozenset({"classify", "regress"})

    def __call__(self, signature: Signature, features: tuple[int, ...], seed: int) -> Any:
        """An `nn.Sequential` from (batch, channels, height, width) to (batch, outputs)."""
        from modelmill.network.blocks import outputs, seeded

        if len(features) != 3:
            wanted = "it takes images of (channels, height, width)"
            raise SpecError(
                "arch.darknet53_light", f"features have the shape {features}; {wanted}", "Try the arch mlp."
            )
        if self.binary and not signature.classes:
            raise SpecError("arch.darknet53_light.binary", "there are no classes to say yes or no to", "Leave it out.")
        return seeded(lambda: self._body(features[0], outputs(signature)), seed)

    def asks(self) -> Mapping[str, Mapping[str, Any]]:
        """Label smoothing, and the loss that `binary` means."""
        return {"train": {"smoothing": 0.1}, "task": {"binary": True} if self.binary else {}}

    def _body(self, channels: int, outputs: int) -> Any:
        from torch import nn

        from modelmill.network.blocks import convolved, sharing

        layers = convolved(channels, self.width, self.kernel, self.stride, after=[nn.LeakyReLU(0.1)])
        layers += [nn.MaxPool2d(3, 2, 1)] if self.pool else []
        width = self.width
        for stage, count in enumerate(self.blocks):
            layers.append(_block(width, 2 * width, 2 if stage else 1))
            width *= 2
            if self.shared and count > 1:
                layers += sharing(_block(width, width, 1), count - 1)
            else:
                layers += [_block(width, width, 1) for _ in range(count - 1)]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, outputs))


def _block(given: int, made: int, stride: int) -> nn.Module:
    from torch import nn

    from modelmill.network.blocks import Residual, Widened

    body = nn.Sequential(*_separable(given, made, stride), *_separable(made, made, 1))
    same = given == made and stride == 1
    return Residual(body, nn.Identity() if same else Widened(made - given, stride), nn.Identity())


def _separable(given: int, made: int, stride: int) -> list[nn.Module]:
    from torch import nn

    from modelmill.network.blocks import convolved

    deep = convolved(given, given, 3, stride, groups=given, after=[nn.LeakyReLU(0.1)])
    return [*deep, *convolved(given, made, 1, after=[nn.LeakyReLU(0.1)])]
