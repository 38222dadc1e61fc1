"""Convolutional network: the body for images, small enough for a microsecond budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta

from modelmill.contracts import Arch
from modelmill.errors import SpecError
from modelmill.model import Kind
from modelmill.signature import Signature

if TYPE_CHECKING:
    from torch import nn


class Cnn(Arch):
    """Stages of 3x3 convolutions; each further stage halves the image and widens the channels.

    The body is one flat `nn.Sequential`: the stem (`Conv2d`, `BatchNorm2d`, `ReLU`), then the blocks of every stage,
    then the head. A plain block is `Conv2d`, `BatchNorm2d`, `ReLU`; with `residual` it is one `Residual` of
    `network/blocks.py`, whose body is conv, norm, ReLU, conv, norm. ResNet-20 is `width = 16, depth = 3, blocks = 3,
    growth = 2, stride = 1, residual = true, shortcut = "zeros", head = "average"`. The first block of a later stage has
    stride 2. The head is `AdaptiveAvgPool2d(1)` (where it averages), `Flatten`, `Dropout` (where asked for), `Linear`.
    Without `norm` there are no batch norms, and convolutions have a bias. Channels can be sliced between neighbours;
    those of a Residual's output are tied to its input's where the shortcut is an `Identity`.

    LeCun et al. (1998), https://doi.org/10.1109/5.726791; He et al. (2016), https://arxiv.org/abs/1512.03385
    """

    width: Annotated[int, Meta(ge=1, le=1024)] = 16
    """Channels of the first stage."""
    depth: Annotated[int, Meta(ge=1, le=6)] = 2
    """Stages; each after the first halves the image."""
    blocks: Annotated[int, Meta(ge=1, le=8)] = 1
    """Blocks of every stage."""
    growth: Annotated[float, Meta(ge=1, le=4)] = 1.5
    """How many times wider the channels of a stage are than those of the stage before."""
    kernel: Literal[1, 3, 5, 7] = 3
    """Side of the convolutions, in pixels."""
    stride: Annotated[int, Meta(ge=0, le=4)] = 0
    """Stride of the stem; 0 takes 2 for images of 16 pixels and more, else 1."""
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Fraction of the last features that is dropped while training."""
    norm: bool = True
    """Whether a batch norm follows every convolution; it is folded away when the model is written."""
    residual: bool = False
    """Whether blocks add their input to their output."""
    shortcut: Literal["conv", "zeros"] = "conv"
    """What adds an input of another shape: a 1x1 convolution, or every other pixel with channels of zeros behind."""
    head: Literal["average", "flatten"] = "flatten"
    """Whether the last image is averaged to one number a channel, or all of its pixels are looked at."""

    body: ClassVar[Kind] = "network"
    kinds: ClassVar[frozenset[str]] = frozenset({"image"})
    tasks: ClassVar[frozenset[str]] = frozenset({"classify", "regress"})

    def __call__(self, signature: Signature, features: tuple[int, ...], seed: int) -> Any:
        """An `nn.Sequential` from (batch, channels, height, width) to (batch, outputs)."""
        from modelmill.network.blocks import outputs, seeded

        if len(features) != 3:
            wanted = "cnn takes images of (channels, height, width)"
            raise SpecError("arch.cnn", f"features have the shape {features}; {wanted}", "Try the arch mlp.")
        return seeded(lambda: self._body(features, outputs(signature)), seed)

    def _body(self, features: tuple[int, ...], outputs: int) -> Any:
        from torch import nn

        channels, height, width = features
        stride = self.stride or (2 if min(height, width) >= 16 else 1)
        layers = self._conv(channels, self.width, stride)
        channels, height, width = self.width, -(-height // stride), -(-width // stride)
        for stage in range(self.depth):
            wider = round(self.width * self.growth**stage)
            for block in range(self.blocks):
                stride = 2 if stage and not block else 1
                layers += (
                    self._residual(channels, wider, stride) if self.residual else self._conv(channels, wider, stride)
                )
                channels, height, width = wider, -(-height // stride), -(-width // stride)
        pixels = 1 if self.head == "average" else height * width
        layers += [nn.AdaptiveAvgPool2d(1)] if self.head == "average" else []
        layers += [nn.Flatten(), *([nn.Dropout(self.dropout)] if self.dropout else [])]
        return nn.Sequential(*layers, nn.Linear(channels * pixels, outputs))

    def _conv(self, given: int, made: int, stride: int) -> list[nn.Module]:
        from torch import nn

        return [*self._bare(given, made, stride, self.kernel), nn.ReLU()]

    def _bare(self, given: int, made: int, stride: int, kernel: int) -> list[nn.Module]:
        """A convolution and its norm; a stride of s leaves ceil(size / s) pixels."""
        from torch import nn

        conv = nn.Conv2d(given, made, kernel, stride=stride, padding=kernel // 2, bias=not self.norm)
        return [conv, *([nn.BatchNorm2d(made)] if self.norm else [])]

    def _residual(self, given: int, made: int, stride: int) -> list[nn.Module]:
        from torch import nn

        from modelmill.network.blocks import Residual, Widened

        inner = [*self._conv(given, made, stride), *self._bare(made, made, 1, self.kernel)]
        same = given == made and stride == 1
        if same:
            shortcut: nn.Module = nn.Identity()
        elif self.shortcut == "zeros":
            shortcut = Widened(made - given, stride)
        else:
            shortcut = nn.Sequential(*self._bare(given, made, stride, 1))
        return [Residual(nn.Sequential(*inner), shortcut, nn.ReLU())]
