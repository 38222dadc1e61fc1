"""Images as another camera would take them: noisier, less sharp, with more or less contrast, in another light."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from modelmill.contracts import Augmentation, Augmented


class Photometric(Augmentation):
    """Contrast, hue, sharpness and noise of every image, each by a number of its own.

    All of it is relative to the images, so that it means the same however pixels were scaled, and no value leaves the
    range that the batch had. Hue takes images of three channels, and is refused for others; it turns colors about
    gray, which takes the channels to be scaled alike, as `prepare.image` does by "unit".

    Krizhevsky, Sutskever & Hinton (2012), https://doi.org/10.1145/3065386; Hendrycks & Dietterich (2019),
    https://arxiv.org/abs/1903.12261
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"image"})

    contrast: Annotated[float, Meta(ge=0, le=4)] = 0.0
    """The share by which the distance of pixels to their image's mean grows at most; it shrinks as often."""
    hue: Annotated[float, Meta(ge=0, le=0.5)] = 0.0
    """The part of a full turn by which colors are turned at most."""
    blur: Annotated[float, Meta(ge=0, le=16)] = 0.0
    """The greatest deviation of the Gaussian that smooths an image, in pixels."""
    noise: Annotated[float, Meta(ge=0, le=2)] = 0.0
    """The greatest deviation of the noise, as a share of the deviation of the batch's pixels."""

    def __call__(self, batch: Any, random: np.random.Generator) -> Augmented:
        """Every image changed; (rows, channels, height, width)."""
        from modelmill.augment.draws import around_one, around_zero, shaped
        from modelmill.augment.light import blurred, check_channels, noisy, spread, turned, within

        rows, images = len(batch), batch
        if self.contrast:
            images = spread(images, around_one(random, self.contrast, rows))
        if self.hue:
            check_channels("photometric.hue", batch, 3)
            images = turned(images, around_zero(random, self.hue, rows))
        if self.blur:
            images = blurred(images, shaped(random.uniform(0, self.blur, rows)))
        if self.noise:
            images = noisy(images, shaped(random.uniform(0, self.noise, rows)) * batch.std(), random)
        return Augmented(within(images, batch))
