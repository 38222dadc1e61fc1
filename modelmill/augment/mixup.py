"""Rows blended in pairs."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from modelmill.contracts import Augmentation, Augmented


class Mixup(Augmentation):
    """Every row blended with another one of the batch; both targets count, each by its share.

    Takes images and tables. The share is one for the whole batch, drawn from Beta(alpha, alpha).

    Zhang et al. (2018), https://arxiv.org/abs/1710.09412
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"image", "table"})

    alpha: Annotated[float, Meta(gt=0)] = 0.2
    """How even the blends are: near 0 one row is almost all of it, at 1 every share is as likely."""

    def __call__(self, batch: Any, random: np.random.Generator) -> Augmented:
        """The batch blended with itself in another order."""
        import torch

        share = float(random.beta(self.alpha, self.alpha))
        order = torch.from_numpy(random.permutation(len(batch)))
        return Augmented(share * batch + (1 - share) * batch[order], order, share)
