"""What a convolution multiplies its weights with: one row of inputs for every place of its output."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from modelmill.contracts import Array
from modelmill.errors import ModelError
from modelmill.train.rows import tensor


def patches(node: Any, value: Array, kernel: tuple[int, ...]) -> tuple[Array, tuple[int, ...]]:
    """(rows, places, channels, kernel places) of (rows, channels, ...) with zeros around, and the output's shape."""
    axes = len(kernel)
    settings = {attribute.name: list(attribute.ints) for attribute in node.attribute if attribute.ints}
    if any(attribute.name == "auto_pad" and attribute.s not in (b"", b"NOTSET") for attribute in node.attribute):
        raise ModelError("quantize", "a Conv with auto_pad", "Export it with pads written out.")
    ones = [1] * axes
    pads, dilations = settings.get("pads", [0] * 2 * axes), settings.get("dilations", ones)
    strides = settings.get("strides", ones)
    widths = [pads[place + end * axes] for place in reversed(range(axes)) for end in (0, 1)]
    image = torch.nn.functional.pad(tensor(value), widths)
    sizes = image.shape[2:]
    shape = tuple((n - d * (k - 1) - 1) // s + 1 for n, d, k, s in zip(sizes, dilations, kernel, strides, strict=True))
    steps = list(kernel)
    if axes == 1:
        image, steps, dilations, strides = image[:, :, None], [1, *kernel], [1, *dilations], [1, *strides]
    found = torch.nn.functional.unfold(image, steps, dilations, 0, strides).transpose(1, 2)
    rows, places, _ = found.shape
    return np.asarray(found.reshape(rows, places, value.shape[1], -1).numpy()), shape
