"""A part of a large trained network, with its weights."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from modelmill.arch.trained import fitting, renew_head, single
from modelmill.contracts import Heir
from modelmill.model import Body, Kind
from modelmill.signature import Signature


class Subnetwork(Heir):
    """Some blocks of a trained network, each with some of its channels, the largest by weight.

    A block can go where what comes out of it has the shape of what goes in: a residual block with a plain shortcut, a
    hidden layer between two of its width, a cell. With the defaults it is the whole network.

    Cai, Gan, Wang, Zhang, Han (2020), https://arxiv.org/abs/1908.09791; Yu, Huang (2019), https://arxiv.org/abs/1903.05134
    """

    model: str
    """The version whose body it starts from: NAME, NAME@3 or NAME@alias."""
    blocks: tuple[Literal[0, 1], ...] = ()
    """For every block that can go, in order, 1 where it stays; blocks that are not listed stay."""
    widths: tuple[Annotated[float, Meta(gt=0, le=1)], ...] = ()
    """The share of channels that stays in every group of layers that share them, in order; 1 where it is not listed."""
    multiple: Annotated[int, Meta(ge=1)] = 1
    """The number of channels that stay is rounded up to a multiple of this."""

    body: ClassVar[Kind] = "network"
    kinds: ClassVar[frozenset[str]] = frozenset({"table", "image", "sequence"})
    tasks: ClassVar[frozenset[str]] = frozenset({"classify", "regress"})

    def __call__(self, base: Body, signature: Signature, features: tuple[int, ...], seed: int) -> Any:
        """A smaller copy of the base's module."""
        import copy

        from modelmill.network.blocks import outputs
        from modelmill.network.slicing import channels, kept, prune, without

        fitting(self.model, base, features)
        single(base.value)
        module = without(copy.deepcopy(base.value), [bool(flag) for flag in self.blocks])
        groups = channels(module)
        share = dict(zip(map(id, groups), self.widths, strict=False))
        prune(module, lambda group: kept(group.width, 1 - share.get(id(group), 1.0), self.multiple), "l2", groups)
        renew_head(module, outputs(signature), seed)
        return module
