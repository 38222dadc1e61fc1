"""What a convolution multiplies its weights with: one row of inputs for every place of its output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from modelmill.contracts import Array
from modelmill.errors import ModelError
from modelmill.train.rows import tensor

AXES = 2
"""Axes that a convolution may go over to be taken apart."""


def patches(node: Any, value: Array, kernel: tuple[int, ...]) -> tuple[Array, tuple[int, ...]]:
    """(rows, places, channels, kernel places) of (rows, channels, ...) with zeros around, and the output's shape.

    Raises ModelError for a convolution over more than two axes.
    """
    axes = len(kernel)
    if axes > AXES:
        said = f"the Conv {node.name!r} goes over {axes} axes; one or two can be taken apart"
        raise ModelError("quantize", said, "Leave this step out.")
    settings = {attribute.name: list(attribute.ints) for attribute in node.attribute if attribute.ints}
    ones = [1] * axes
    dilations, strides = settings.get("dilations", ones), settings.get("strides", ones)
    pads = _pads(node, value.shape[2:], kernel, strides, dilations) or settings.get("pads", [0] * 2 * axes)
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


def _pads(
    node: Any, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int]:
    """What `auto_pad` comes to, all beginnings before all ends; empty where pads are written out."""
    said = next((attribute.s for attribute in node.attribute if attribute.name == "auto_pad"), b"")
    if said in (b"", b"NOTSET"):
        return []
    if said == b"VALID":
        return [0] * 2 * len(kernel)
    missing = [
        max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
        for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    halves, rests = [size // 2 for size in missing], [size - size // 2 for size in missing]
    return [*halves, *rests] if said == b"SAME_UPPER" else [*rests, *halves]
