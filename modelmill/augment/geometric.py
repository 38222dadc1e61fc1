"""Images moved, turned, mirrored, bent and cut."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from msgspec import Meta

from modelmill.contracts import Augmentation, Augmented

if TYPE_CHECKING:
    from torch import Tensor

AXES = {"horizontal": (3,), "vertical": (2,), "both": (3, 2), "none": ()}
"""The axes along which a flip mirrors, in the order in which they are drawn."""


class Geometric(Augmentation):
    """Images shifted, turned, scaled, sheared, cropped and mirrored, each by numbers of its own.

    What comes in at the edges is the batch's background: the median of the corners, channel by channel. Shifts and
    flips alone move whole pixels; with any other setting everything is one map, read between pixels by interpolation.

    Simard, Steinkraus & Platt (2003), https://doi.org/10.1109/ICDAR.2003.1227801; crop: Szegedy et al. (2015),
    https://arxiv.org/abs/1409.4842
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"image"})

    shift: Annotated[int, Meta(ge=0)] = 0
    """Pixels by which an image is moved at most, in both directions."""
    flip: Literal["none", "horizontal", "vertical", "both"] = "none"
    """How half of the images are mirrored: left to right, top to bottom, or both independently."""
    rotate: Annotated[float, Meta(ge=0, le=180)] = 0.0
    """Degrees by which an image is turned at most, to either side."""
    scale: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """The share by which an image grows at most; it shrinks as often, by the inverse."""
    shear: Annotated[float, Meta(ge=0, le=60)] = 0.0
    """Degrees by which the upright lines of an image lean at most."""
    crop: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """The share of each side that is cut away at most; what stays is enlarged to the full size."""

    def __call__(self, batch: Any, random: np.random.Generator) -> Augmented:
        """Every image changed; (rows, channels, height, width)."""
        from modelmill.augment.warp import mirrored, moved, warped

        if self.rotate or self.scale or self.shear or self.crop:
            return Augmented(warped(batch, self._matrices(batch.shape, random)))
        if self.shift:
            batch = moved(batch, self.shift, random)
        for axis in AXES[self.flip]:
            batch = mirrored(batch, axis, random)
        return Augmented(batch)

    def _matrices(self, shape: tuple[int, int, int, int], random: np.random.Generator) -> Tensor:
        """(rows, 2, 3): where every pixel of the result is taken from."""
        import torch

        rows, _, height, width = shape
        sizes = np.array([width, height])
        angle = np.radians(random.uniform(-self.rotate, self.rotate, rows))
        grown = math.log1p(self.scale)
        kept = random.uniform(1 - self.crop, 1, rows)
        zoom = kept * np.exp(random.uniform(-grown, grown, rows))
        lean = np.tan(np.radians(random.uniform(-self.shear, self.shear, rows)))
        # What is kept of a cropped image lies anywhere in it.
        free = (1 - kept)[:, None] / 2 * sizes
        offset = random.uniform(-1, 1, (rows, 2)) * free + random.uniform(-self.shift, self.shift, (rows, 2))
        matrices = np.zeros((rows, 2, 3))
        cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
        matrices[:, 0, 0], matrices[:, 0, 1] = cos, cos * lean - sin
        matrices[:, 1, 0], matrices[:, 1, 1] = sin, sin * lean + cos
        for axis in AXES[self.flip]:
            matrices[:, :, 3 - axis] *= np.where(random.random(rows) < 0.5, -1, 1)[:, None]
        matrices[:, :, 2] = offset
        return torch.from_numpy(matrices).float()
