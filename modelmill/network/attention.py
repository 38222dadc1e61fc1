"""The parts of a transformer encoder: features as tokens, attention between them, and one vector of all.

Tokens are (batch, tokens, width) here; in a graph they lie one below the other, (batch * tokens, width), so that linear
maps are plain matrix products.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention


class Tokens(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Features as tokens: patches of an image or of steps by a convolution, or each number of a table as one.

    count: tokens, with that of `first`. first: whether a learned token stands before the others, to gather what they
    say. cut: a convolution whose stride is its size; None for tables.

    Dosovitskiy et al. (2021), https://arxiv.org/abs/2010.11929; Gorishniy et al. (2021), https://arxiv.org/abs/2106.11959
    """

    def __init__(self, cut: nn.Module | None, count: int, width: int, first: bool) -> None:
        super().__init__()
        self.cut, self.first = cut, first
        self.place = nn.Parameter(torch.randn(count, width) * 0.02)
        """What tells a token's place; of a token before the others it is all that there is."""
        if cut is None:
            self.scale = nn.Parameter(torch.randn(count - first, width) * 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, *features) to (batch, tokens, width)."""
        found = x.unsqueeze(2) * self.scale if self.cut is None else self.cut(x).flatten(2).transpose(1, 2)
        return cast(Tensor, (pad(found, (0, 0, 1, 0)) if self.first else found) + self.place)


class Attention(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Every token looks at all tokens, in several ways at once.

    heads: how many ways. size: numbers of a head.

    Vaswani et al. (2017), https://arxiv.org/abs/1706.03762, section 3.2
    """

    def __init__(self, width: int, heads: int, size: int, tokens: int) -> None:
        super().__init__()
        self.heads, self.size, self.tokens = heads, size, tokens
        self.ask = nn.Linear(width, 3 * heads * size)
        """Queries, then keys, then values, each head by head."""
        self.tell = nn.Linear(heads * size, width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, width) to the same shape."""
        queries, keys, values = self.ask(x).unflatten(2, (3, self.heads, self.size)).permute(2, 0, 3, 1, 4)
        told = scaled_dot_product_attention(queries, keys, values)
        return cast(Tensor, self.tell(told.transpose(1, 2).flatten(2)))

    def keep(self, heads: Tensor) -> None:
        """Leave only the heads at these places, in place."""
        rows = torch.arange(3 * self.heads * self.size).view(3, self.heads, self.size)[:, heads].flatten()
        columns = torch.arange(self.heads * self.size).view(self.heads, self.size)[heads].flatten()
        with torch.no_grad():
            self.ask.weight = nn.Parameter(self.ask.weight[rows].clone())
            self.ask.bias = nn.Parameter(self.ask.bias[rows].clone())
            self.tell.weight = nn.Parameter(self.tell.weight[:, columns].clone())
        self.heads = len(heads)
        self.ask.out_features, self.tell.in_features = len(rows), len(columns)


class Pooled(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """One vector of all tokens: the first, or their mean."""

    def __init__(self, tokens: int, width: int, first: bool) -> None:
        super().__init__()
        self.tokens, self.width, self.first = tokens, width, first

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, width) to (batch, width)."""
        return x[:, 0] if self.first else x.mean(1)
