"""Labels as positions among the classes, so that counting is quick whatever the labels are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modelmill.contracts import Array, Outputs

UNSEEN = -1
"""The position of a label that is not among the classes."""


def places(labels: Array, classes: Sequence[Any]) -> Array:
    """(rows,) positions of labels among the classes, `UNSEEN` where they are not.

    >>> places(np.array(["b", "?"], object), ("a", "b")).tolist()
    [1, -1]
    """
    if isinstance(classes, range) and labels.dtype.kind == "i":
        return np.where((labels >= 0) & (labels < len(classes)), labels, UNSEEN)
    known = {label: place for place, label in enumerate(classes)}
    return np.fromiter((known.get(label, UNSEEN) for label in labels.tolist()), np.int64, len(labels))


def coded(outputs: Outputs, targets: Array, classes: Sequence[Any]) -> tuple[Outputs, Array, Sequence[Any]]:
    """The same answers and targets with positions for labels; labels that are no class get positions behind them."""
    if "label" not in outputs or targets.dtype.names:
        return outputs, targets, classes
    known = {label: place for place, label in enumerate(classes)}

    def code(labels: Array) -> Array:
        return np.fromiter((known.setdefault(label, len(known)) for label in labels.tolist()), np.int64, len(labels))

    return {**outputs, "label": code(np.asarray(outputs["label"]))}, code(np.asarray(targets)), range(len(classes))
