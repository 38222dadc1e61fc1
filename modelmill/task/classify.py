"""Tell which of several classes a row belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from modelmill.contracts import Array, Task
from modelmill.errors import ModelError
from modelmill.fragment import Writer
from modelmill.signature import Field, Signature

UNSEEN = -100
"""The code of a label that training never saw: torch's losses leave it out."""


class Classify(Task):
    """One label of several for every row, with the probability of each.

    Outputs: `label` (rows,), a string or an integer as in the data, and `probabilities` (rows, classes) in the order
    of the signature's classes. Taught by cross-entropy. With `binary` a logit is the logarithm of the odds that its
    class is the one; that exactly one is has the probabilities that a softmax gives, so that answers are worked out
    alike.

    >>> Classify().encode(np.array(["b", "a", "b"], object), ("a", "b")).tolist()
    [1, 0, 1]
    """

    metrics: tuple[str, ...] = ("accuracy", "f1", "precision", "recall", "log_loss", "auroc")
    """The metrics that are told; the first is the goal where none is asked for."""
    binary: bool = False
    """Whether every class is taught as a yes or no of its own; probabilities are those of exactly one yes."""
    outputs: ClassVar[tuple[str, ...]] = ("label", "probabilities")

    def declare(self, classes: Sequence[Any]) -> tuple[Field, ...]:
        """The label's type is that of the classes."""
        text = bool(classes) and isinstance(classes[0], str)
        return (
            Field("label", "BYTES" if text else "INT64", (-1,), "category"),
            Field("probabilities", "FP32", (-1, len(classes)), "array"),
        )

    def width(self, classes: Sequence[Any]) -> int:
        """One logit a class."""
        return len(classes)

    def encode(self, target: Array, classes: Sequence[Any]) -> Array:
        """(rows,) int64 positions in `classes`; `UNSEEN` for a label that is not among them."""
        places = {label: place for place, label in enumerate(classes)}
        return np.fromiter((places.get(label, UNSEEN) for label in target.tolist()), np.int64, len(target))

    def loss(self, raw: Any, encoded: Any, weights: Any | None, smoothing: float, focal: float = 0.0) -> Any:
        """Mean cross-entropy; `encoded` may be (batch, classes) probabilities too, where labels are mixed.

        With `focal` every class's part of it counts the less the more probable the class is said to be:
        `-sum q (1 - p)^focal log p` for smoothed targets q, which are 0 and 1 without smoothing. With `binary` it is
        the sum over classes of the cross-entropies of yes and no; smoothing draws their targets towards a half.

        Lin et al. (2017), https://arxiv.org/abs/1708.02002, equation 4
        """
        from torch.nn.functional import cross_entropy

        if self.binary:
            each = _binary(raw, encoded, smoothing, focal)
        elif focal:
            each = _focal(raw, encoded, smoothing, focal)
        else:
            each = cross_entropy(raw, encoded, reduction="none", label_smoothing=smoothing, ignore_index=UNSEEN)
        counted = (encoded != UNSEEN).to(each.dtype) if encoded.ndim == 1 else each.new_ones(each.shape)
        counted = counted if weights is None else counted * weights
        return (each * counted).sum() / counted.sum().clamp_min(1e-12)

    def decode(self, raw: str, form: str, signature: Signature, writer: Writer) -> None:
        """Softmax over logits, and the label of the greatest probability."""
        if form == "logits":
            probabilities = writer.op("Softmax", [raw], {"axis": -1})
        elif form == "probabilities":
            probabilities = raw
        else:
            raise ModelError("task/classify", f"the body gives a {form}", "Use a body that classifies.")
        place = writer.op("ArgMax", [probabilities], {"axis": 1, "keepdims": 0})
        writer.rename(_label(place, signature.classes, writer), "label")
        writer.rename(probabilities, "probabilities")


def _focal(raw: Any, encoded: Any, smoothing: float, focal: float) -> Any:
    """(batch,) focal losses; those of rows that do not count are there, and mean nothing."""
    from torch.nn.functional import log_softmax

    shares = _shares(raw, encoded) * (1 - smoothing) + smoothing / raw.shape[1]
    logs = log_softmax(raw, dim=1)
    # 1 - p from its logarithm: near p = 1 the difference has no digits left, and a power of 0 has no slope.
    doubts = (-logs.expm1()).clamp_min(1e-7)
    return -(shares * doubts**focal * logs).sum(dim=1)


def _binary(raw: Any, encoded: Any, smoothing: float, focal: float) -> Any:
    """(batch,) sums over classes of the losses of yes and no; those of rows that do not count mean nothing."""
    from torch.nn.functional import logsigmoid

    shares = _shares(raw, encoded) * (1 - smoothing) + smoothing / 2
    yes, no = logsigmoid(raw), logsigmoid(-raw)
    if focal:
        return -(shares * no.exp() ** focal * yes + (1 - shares) * yes.exp() ** focal * no).sum(dim=1)
    return -(shares * yes + (1 - shares) * no).sum(dim=1)


def _shares(raw: Any, encoded: Any) -> Any:
    """(batch, classes) targets as probabilities."""
    from torch.nn.functional import one_hot

    return one_hot(encoded.clamp_min(0), raw.shape[1]).to(raw.dtype) if encoded.ndim == 1 else encoded


def _label(place: str, classes: Sequence[Any], writer: Writer) -> str:
    if tuple(classes) == tuple(range(len(classes))):
        return place
    text = isinstance(classes[0], str)
    names = writer.constant(np.array(list(classes), object if text else np.int64))
    return writer.op("Gather", [names, place], {"axis": 0})
