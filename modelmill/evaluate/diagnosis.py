"""Says in words how a training went: whether it learned too little or by heart, and what to try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite

from modelmill.evaluate.words import figure, higher, words
from modelmill.trial import Point

WIDE = 0.05
"""A gap between training and validation that is worth a word, of a metric that ends at 1."""

WIDE_ERROR = 0.5
"""The same of an error: by which part of itself it grows."""

WEAK, HOPELESS = 0.7, 0.5
"""A metric that ends at 1 and stays below this on its own training rows has learned too little, whatever the gap."""

SMALLER_NET = "Try more data, weight decay, dropout, augmentation, fewer epochs or a narrower network."
LARGER_NET = "Try a wider or deeper network, more epochs, another learning rate or better features."
SMALLER = {
    "linear": "Try more data, stronger regularization or fewer features.",
    "tree": "Try more data, a shallower tree or more rows in a leaf.",
    "forest": "Try more data, shallower trees or more rows in a leaf.",
    "boosting": "Try more data, shallower trees, fewer rounds or a lower learning rate.",
}
"""Family: what to try where it learned by heart."""

LARGER = {
    "linear": "Try weaker regularization, better features, or a family that bends: trees or a network.",
    "tree": "Try a deeper tree, many trees or better features.",
    "forest": "Try deeper trees or better features.",
    "boosting": "Try more rounds, deeper trees or better features.",
}
"""Family: what to try where it learned too little."""


def diagnose(
    curve: Sequence[Point], train: Mapping[str, float], valid: Mapping[str, float], body: str = ""
) -> list[str]:
    """Whether the model learned too little or by heart, in sentences, with what to try.

    train, valid: its metrics on rows that it learned from and on others, the one that decides first. Whether it learned
    too little is judged by the first that ends at 1, since an error's size says nothing by itself. body: its family.
    """
    both = [name for name in train if name in valid and isfinite(train[name]) and isfinite(valid[name])]
    sentences = [*_gap(both, train, valid, body), *_course(curve)]
    return sentences or ["Nothing in the training stands out."]


def _gap(both: Sequence[str], train: Mapping[str, float], valid: Mapping[str, float], body: str) -> list[str]:
    if not both:
        return []
    weak = next((name for name in both if higher(name) and train[name] < WEAK), None)
    wide = _is_wide(both[0], train[both[0]], valid[both[0]])
    if weak is not None and (not wide or train[weak] < HOPELESS):
        also = " Part of it holds for the rows it learned from alone, so that more data would help too." if wide else ""
        return [f"It underfits: {_beside(weak, train, valid)}. {LARGER.get(body, LARGER_NET)}{also}"]
    if wide:
        return [f"It overfits: {_beside(both[0], train, valid)}. {SMALLER.get(body, SMALLER_NET)}"]
    return [f"It generalizes: {_beside(both[0], train, valid)}."]


def _is_wide(name: str, seen: float, unseen: float) -> bool:
    """Whether a model does so much worse on new rows that it is worth a word."""
    if higher(name):
        return seen - unseen > WIDE
    return (unseen - seen) / abs(seen) > WIDE_ERROR if seen else unseen > 0


def _beside(name: str, train: Mapping[str, float], valid: Mapping[str, float]) -> str:
    seen, unseen = figure(train[name]), figure(valid[name])
    return f"{words(name)} {seen} on the rows it learned from, {unseen} on rows it did not"


def restarts(curve: Sequence[Point]) -> list[int]:
    """Where the count of steps begins anew: places in the curve at which compression, or a fold, took over.

    The point after a fold has no step of its own.

    >>> restarts([Point(1, {}), Point(2, {}), Point(1, {}), Point(0, {}, folds=1)])
    [3]
    """
    stepped = [(place, point.step) for place, point in enumerate(curve, 1) if point.step]
    return [place for (_, before), (place, step) in pairwise(stepped) if step <= before]


def _course(curve: Sequence[Point]) -> list[str]:
    training = curve[: (restarts(curve) or [len(curve) + 1])[0] - 1]
    losses = [(point.step, point.values["valid_loss"]) for point in training if "valid_loss" in point.values]
    losses = [(step, loss) for step, loss in losses if isfinite(loss)]
    if len(losses) < 4:
        falling = len(losses) > 1 and losses[-1][1] < 0.95 * losses[0][1]
        return ["Validation loss was still falling when training ended: more epochs may help."] if falling else []
    best_step, best = min(losses, key=lambda pair: pair[1])
    last_step, last = losses[-1]
    if best > 0 and last > 1.1 * best and best_step <= 0.8 * last_step:
        rise = f"{100 * (last / best - 1):.0f} %"
        return [f"Validation loss was lowest at epoch {best_step} of {last_step} and rose by {rise} after it."]
    earlier = losses[int(len(losses) * 0.8) - 1][1]
    if best_step == last_step and earlier > 1.05 * last:
        return ["Validation loss was still falling when training ended: more epochs may help."]
    if best_step == last_step:
        return [f"Validation loss levelled out by the last of {last_step} epochs."]
    return [f"Validation loss levelled out: lowest at epoch {best_step} of {last_step}."]
