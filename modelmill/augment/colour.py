"""Images lighter, darker, paler, stronger in color, or with a cast."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from modelmill.contracts import Augmentation, Augmented


class Colour(Augmentation):
    """Brightness, saturation and tint of every image, each by a number of its own.

    Brightness and tint are measured in deviations of the batch's pixels, so that they mean the same however pixels were
    scaled; no value leaves the range that the batch had. Brightness takes any image. Saturation takes three channels
    and tint at least two, and both are refused for images of fewer.

    Howard (2013), https://arxiv.org/abs/1312.5402
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"image"})

    brightness: Annotated[float, Meta(ge=0, le=4)] = 0.0
    """Deviations by which all pixels of an image are raised or lowered at most."""
    saturation: Annotated[float, Meta(ge=0, le=4)] = 0.0
    """The share by which the distance of colors to gray grows at most; it shrinks as often."""
    tint: Annotated[float, Meta(ge=0, le=4)] = 0.0
    """Deviations by which every channel of an image is raised or lowered at most, each by itself."""

    def __call__(self, batch: Any, random: np.random.Generator) -> Augmented:
        """Every image changed; (rows, channels, height, width)."""
        from modelmill.augment.draws import around_one, around_zero
        from modelmill.augment.light import check_channels, saturated, within

        images, (rows, channels) = batch, batch.shape[:2]
        if self.brightness:
            images = images + around_zero(random, self.brightness, rows) * batch.std()
        if self.saturation:
            check_channels("colour.saturation", batch, 3)
            images = saturated(images, around_one(random, self.saturation, rows))
        if self.tint:
            check_channels("colour.tint", batch, 2)
            shifts = around_zero(random, self.tint, rows * channels).reshape(rows, channels, 1, 1)
            images = images + shifts * batch.std()
        return Augmented(within(images, batch))
