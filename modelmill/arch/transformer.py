"""Transformer encoder: a body for sequences, images and tables, in which every part looks at every other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta

from modelmill.contracts import Arch
from modelmill.model import Kind
from modelmill.signature import Signature

if TYPE_CHECKING:
    from torch import nn

TOKENS = 64
"""Tokens that patches are chosen for, at most, where their size is not given."""


class Transformer(Arch):
    """Features cut into tokens, blocks of attention and of two linear maps, and one vector of all tokens.

    Tokens are patches of an image, groups of steps, or the single numbers of a table. The body is one flat
    `nn.Sequential`: `Tokens`, then for every block a `Residual` of a layer norm and `Attention`, and one of a layer
    norm and two linear maps with a GELU between; a layer norm, `Pooled`, and a `Linear`. Halves of blocks can go, and
    so can heads and the neurons between two maps; the width of tokens stays. Attention costs the square of the tokens.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762; Dosovitskiy et al. (2021),
    https://arxiv.org/abs/2010.11929; Gorishniy et al. (2021), https://arxiv.org/abs/2106.11959
    """

    width: Annotated[int, Meta(ge=1, le=2048)] = 32
    """Numbers of a token."""
    depth: Annotated[int, Meta(ge=1, le=24)] = 2
    """Blocks."""
    heads: Annotated[int, Meta(ge=1, le=32)] = 2
    """Ways in which tokens look at each other; each has its share of the width, rounded up."""
    expand: Annotated[float, Meta(gt=0, le=8)] = 2.0
    """How many times as wide as a token the hidden layer of a block is."""
    patch: Annotated[int, Meta(ge=0, le=64)] = 0
    """Side of a patch in pixels, or steps of a token; 0 takes the smallest that gives 64 tokens or fewer."""
    pool: Literal["average", "first"] = "average"
    """Whether the mean of all tokens counts, or a learned one that stands before them."""
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Fraction of what each half of a block says that is dropped while training."""

    body: ClassVar[Kind] = "network"
    kinds: ClassVar[frozenset[str]] = frozenset({"table", "image", "sequence"})
    tasks: ClassVar[frozenset[str]] = frozenset({"classify", "regress"})

    def __call__(self, signature: Signature, features: tuple[int, ...], seed: int) -> Any:
        """An `nn.Sequential` from (batch, *features) to (batch, outputs)."""
        from modelmill.network.blocks import outputs, seeded

        return seeded(lambda: self._body(features, outputs(signature)), seed)

    def _body(self, features: tuple[int, ...], outputs: int) -> Any:
        from torch import nn

        from modelmill.network.attention import Attention, Pooled, Tokens

        first = self.pool == "first"
        cut, count = self._cut(features)
        count += first
        size, hidden = math.ceil(self.width / self.heads), max(1, round(self.expand * self.width))
        layers: list[nn.Module] = [Tokens(cut, count, self.width, first)]
        for _ in range(self.depth):
            layers.append(self._half(Attention(self.width, self.heads, size, count)))
            maps = [nn.Linear(self.width, hidden), nn.GELU(), nn.Linear(hidden, self.width)]
            layers.append(self._half(*maps))
        layers += [nn.LayerNorm(self.width), Pooled(count, self.width, first)]
        return nn.Sequential(*layers, nn.Linear(self.width, outputs))

    def _half(self, *layers: nn.Module) -> nn.Module:
        from torch import nn

        from modelmill.network.blocks import Residual

        dropped = [nn.Dropout(self.dropout)] if self.dropout else []
        return Residual(nn.Sequential(nn.LayerNorm(self.width), *layers, *dropped), nn.Identity(), nn.Identity())

    def _cut(self, features: tuple[int, ...]) -> tuple[nn.Module | None, int]:
        """The convolution that makes tokens, and how many; what the last lack is made up by zeros on both sides."""
        from torch import nn

        if len(features) == 1:
            return None, features[0]
        channels, *sizes = features
        patch = self.patch
        while not patch or (not self.patch and _tokens(sizes, patch) > TOKENS):
            patch += 1
        padding = [-(-(-size % patch) // 2) for size in sizes]
        kind = nn.Conv1d if len(sizes) == 1 else nn.Conv2d
        return kind(channels, self.width, patch, stride=patch, padding=tuple(padding)), _tokens(sizes, patch)


def _tokens(sizes: list[int], patch: int) -> int:
    return math.prod(-(-size // patch) for size in sizes)
