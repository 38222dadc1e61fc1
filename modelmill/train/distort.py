"""Random changes of a batch that leave its meaning: moved, mirrored and blended rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from modelmill.train.recipe import Recipe

Random = np.random.Generator


def background(images: Tensor) -> float:
    """The value that stands for nothing: the median of the images' corners."""
    corners = images[:4096, :, [0, 0, -1, -1], [0, -1, 0, -1]]
    return float(corners.median())


def distort(batch: Tensor, recipe: Recipe, fill: float, random: Random) -> Tensor:
    """The batch with the distortions of the recipe that its shape allows; tables stay as they are."""
    if batch.ndim != 4:
        return batch
    if recipe.shift:
        batch = shift(batch, recipe.shift, fill, random)
    if recipe.flip:
        batch = flip(batch, random)
    return batch


def shift(images: Tensor, pixels: int, fill: float, random: Random) -> Tensor:
    """Every image moved by up to so many pixels in both directions; what comes in at the edges is `fill`."""
    count, channels, height, width = images.shape
    padded = torch.nn.functional.pad(images, (pixels,) * 4, value=fill)
    offsets = torch.from_numpy(random.integers(0, 2 * pixels + 1, (2, count)))
    down = offsets[0][:, None] + torch.arange(height)
    right = offsets[1][:, None] + torch.arange(width)
    index = down[:, :, None] * (width + 2 * pixels) + right[:, None, :]
    flat = padded.reshape(count, channels, -1)
    return flat.gather(2, index.reshape(count, 1, -1).expand(-1, channels, -1)).view_as(images)


def flip(images: Tensor, random: Random) -> Tensor:
    """Every image mirrored left to right, or not."""
    mirrored = torch.from_numpy(random.random(len(images)) < 0.5)
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def mixed(batch: Tensor, alpha: float, random: Random) -> tuple[Tensor, Tensor, float]:
    """The batch blended with itself in another order; that order, and the share of the first.

    Zhang et al. (2018), https://arxiv.org/abs/1710.09412
    """
    share = float(random.beta(alpha, alpha))
    order = torch.from_numpy(random.permutation(len(batch)))
    return share * batch + (1 - share) * batch[order], order, share


def generator(*parts: Any) -> Random:
    """A generator that depends on the numbers given alone."""
    return np.random.default_rng([int(part) for part in parts])
