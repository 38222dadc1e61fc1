"""Images moved, mirrored and bent; what comes in from beyond their edges is their background."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

Random = np.random.Generator


def background(images: Tensor) -> Tensor:
    """(channels, 1, 1): the value of each channel that stands for nothing, the median of the images' corners.

    >>> background(torch.zeros(2, 3, 4, 4)).flatten().tolist()
    [0.0, 0.0, 0.0]
    """
    down, across = (max(size - 1, 1) for size in images.shape[2:])
    corners = images.numpy()[:, :, ::down, ::across].swapaxes(0, 1).reshape(images.shape[1], -1)
    # numpy finds a median of few numbers four times as fast as torch does, and every batch needs one.
    middle = (corners.shape[1] - 1) // 2
    return torch.from_numpy(np.partition(corners, middle, axis=1)[:, middle, None, None])


def moved(images: Tensor, pixels: int, random: Random) -> Tensor:
    """Every image moved by up to so many whole pixels in both directions."""
    count, channels, height, width = images.shape
    padded = background(images).expand(count, channels, height + 2 * pixels, width + 2 * pixels).clone()
    padded[:, :, pixels : pixels + height, pixels : pixels + width] = images
    offsets = torch.from_numpy(random.integers(0, 2 * pixels + 1, (2, count)))
    down = offsets[0][:, None] + torch.arange(height)
    right = offsets[1][:, None] + torch.arange(width)
    index = down[:, :, None] * (width + 2 * pixels) + right[:, None, :]
    flat = padded.reshape(count, channels, -1)
    return flat.gather(2, index.reshape(count, 1, -1).expand(-1, channels, -1)).view_as(images)


def mirrored(images: Tensor, axis: int, random: Random) -> Tensor:
    """Every image mirrored along an axis, or not."""
    turned = torch.from_numpy(random.random(len(images)) < 0.5)
    return torch.where(turned[:, None, None, None], images.flip(axis), images)


def warped(images: Tensor, matrices: Tensor) -> Tensor:
    """Every image as its matrix bends it, between pixels by bilinear interpolation.

    matrices: (rows, 2, 3); from the place of a pixel in the result, (x, y, 1) in pixels from the center, to the place
    in the image that it is taken from.
    """
    height, width = images.shape[2:]
    # In the grid's own unit an image reaches from -1 to 1 on both sides, whatever its height and width.
    sizes = matrices.new_tensor([width, height])
    to_pixels = torch.cat([sizes, sizes.new_tensor([2.0])])
    theta = matrices * to_pixels / sizes[:, None]
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    fill = background(images)
    return grid_sample(images - fill, grid, align_corners=False) + fill
