"""What happens to the values of pixels: contrast, color, sharpness and noise. Numbers are one for every image."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from modelmill.errors import SpecError

LUMA = (0.299, 0.587, 0.114)
"""How light red, green and blue seem (ITU-R BT.601)."""


def check_channels(setting: str, images: Tensor, least: int) -> None:
    """Refuse images of too few channels, or of more than three where colors are meant to be red, green and blue."""
    channels = images.shape[1]
    if channels < least or (least == 3 and channels != 3):
        wanted = "red, green and blue" if least == 3 else f"at least {least} channels"
        plural = "channel" if channels == 1 else "channels"
        message = f"images have {channels} {plural}, expected {wanted}"
        raise SpecError(f"augment.{setting}", message, "Leave the setting at 0, or change contrast and brightness.")


def within(images: Tensor, batch: Tensor) -> Tensor:
    """The images with no value outside what the batch held before."""
    return images if images is batch else images.clamp(*torch.aminmax(batch))


def spread(images: Tensor, factors: Tensor) -> Tensor:
    """Every image with its pixels' distance to their mean times a factor.

    >>> spread(torch.tensor([[[[0.0, 2.0]]]]), torch.tensor(0.5)).flatten().tolist()
    [0.5, 1.5]
    """
    means = images.mean(dim=(1, 2, 3), keepdim=True)
    return means + factors * (images - means)


def saturated(images: Tensor, factors: Tensor) -> Tensor:
    """Every image with its colors' distance to gray of the same lightness times a factor."""
    gray = (images * images.new_tensor(LUMA)[:, None, None]).sum(dim=1, keepdim=True)
    return gray + factors * (images - gray)


def turned(images: Tensor, turns: Tensor) -> Tensor:
    """Every image with its colors turned about the gray axis by parts of a full turn; a third makes red to green."""
    angle = turns.reshape(-1, 1, 1) * (2 * math.pi)
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    # Rodrigues' formula for the axis (1, 1, 1) / sqrt(3).
    rotation = angle.cos() * torch.eye(3) + (1 - angle.cos()) / 3 + angle.sin() * cross
    return (rotation @ images.flatten(2)).view_as(images)


def blurred(images: Tensor, deviations: Tensor) -> Tensor:
    """Every image smoothed by a Gaussian of its own deviation in pixels; edges are repeated outwards."""
    rows, channels, height, width = images.shape
    reach = max(1, math.ceil(3 * float(deviations.max())))
    distances = torch.arange(-reach, reach + 1) / deviations.reshape(-1, 1).clamp_min(1e-3)
    bells = torch.exp(-(distances**2) / 2)
    bells = (bells / bells.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    # One image of rows * channels channels, each with a kernel of its own, first down and then across.
    padded = pad(images.reshape(1, -1, height, width), (reach,) * 4, mode="replicate")
    down = conv2d(padded, bells[:, None, :, None], groups=rows * channels)
    return conv2d(down, bells[:, None, None, :], groups=rows * channels).view_as(images)


def noisy(images: Tensor, deviations: Tensor, random: np.random.Generator) -> Tensor:
    """Every image with Gaussian noise of its own deviation."""
    return images + deviations * torch.from_numpy(random.standard_normal(tuple(images.shape), np.float32))
