"""The forms in which numbers are written; of each piece the one that takes the fewest bytes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from modelmill.store.packing import masks, symbols
from modelmill.store.packing.flow import Array, Source, Tail, damaged, number

RAW, PLANES, VALUES, MASKED = range(4)
"""As they are; byte by byte; few values and which one it is; one value that is frequent, and all others."""

LARGEST = 1 << 21
"""Numbers of a piece, what is held in memory at once; another value is another format."""
WORTH = 7 / 8
"""A form that takes more than this share of the bytes is not worth the time."""
SAMPLE = 4096
"""Numbers that are looked at to see whether there are few values."""


class Form(NamedTuple):
    """A form for some numbers, with what it takes to write them, and about how many bytes that is."""

    kind: int
    cost: float
    values: Array | None = None
    codes: Array | None = None
    mask: Array | None = None
    plan: masks.Plan | None = None


def put(words: Array, width: int, tail: Tail) -> bytes:
    """Write numbers (n,) of an unsigned type, in rows of `width`; what the head says of them."""
    width = min(width, len(words))
    plain = _cheapest(words)
    masked = _masked(words, width)
    if masked is None:
        return _put_plain(words, plain, tail)
    assert masked.mask is not None
    assert masked.plan is not None
    rest = words[masked.mask]
    inner = _cheapest(rest)
    if masked.cost + inner.cost >= min(plain.cost, WORTH * words.nbytes):
        return _put_plain(words, plain, tail)
    said = _put_plain(rest, inner, tail)
    head = bytearray(number(MASKED) + words[~masked.mask][:1].tobytes())
    masks.put(masked.mask, masked.plan, head, tail)
    return bytes(head) + said


def get(kind: str, count: int, width: int, head: Source, payload: Source) -> Array:
    """Read `count` numbers of a type in rows of `width`: (count,)."""
    form = head.number(MASKED)
    if form != MASKED:
        return _get_plain(form, kind, count, head, payload)
    words = np.repeat(head.array(kind, 1), count)
    if not width:
        raise damaged("a row of numbers has none")
    mask = masks.get(count, min(width, count), head, payload)
    words[mask] = _get_plain(head.number(VALUES), kind, int(mask.sum()), head, payload)
    return words


def _masked(words: Array, width: int) -> Form | None:
    """All but the most frequent number; None where none is frequent."""
    few = words[:: max(1, len(words) // SAMPLE)]
    values, counts = np.unique(few, return_counts=True)
    if not len(values) or counts.max() < len(few) / 4:
        return None
    mask = words != values[counts.argmax()]
    if mask.all():
        return None
    plan = masks.planned(mask, width)
    return Form(MASKED, plan.cost + words.itemsize, mask=mask, plan=plan)


def _cheapest(words: Array) -> Form:
    forms = [Form(RAW, WORTH * words.nbytes), Form(PLANES, sum(_plane_cost(plane) for plane in _planes(words)))]
    found = _few_values(words) if words.itemsize > 1 and len(words) else None
    if found is not None:
        values, codes = found
        cost = symbols.cost(np.bincount(codes, minlength=1)) + values.nbytes
        forms.append(Form(VALUES, cost, values, codes))
    return min(forms, key=lambda form: form.cost)


def _few_values(words: Array) -> tuple[Array, Array] | None:
    """The values, at most 256, and which of them each number is; None where there are more."""
    values = np.unique(words[:: max(1, len(words) // SAMPLE)])
    for _ in range(2):
        if len(values) > 256:
            return None
        codes = np.minimum(np.searchsorted(values, words), len(values) - 1).astype(np.uint8)
        other = values[codes] != words
        if not other.any():
            return values, codes
        values = np.union1d(values, words[other])
    return None


def _planes(words: Array) -> list[Array]:
    """The bytes of the numbers by their place in a number, the highest first: each (n,)."""
    split = words.view(np.uint8).reshape(len(words), words.itemsize)
    return [np.ascontiguousarray(split[:, place]) for place in reversed(range(words.itemsize))]


def _plane_cost(plane: Array) -> float:
    return min(len(plane), symbols.cost(np.bincount(plane, minlength=1)))


def _put_plain(words: Array, form: Form, tail: Tail) -> bytes:
    head = bytearray(number(form.kind))
    if form.kind == RAW:
        tail.put(words.tobytes())
    elif form.kind == VALUES:
        assert form.values is not None
        assert form.codes is not None
        head += number(len(form.values)) + form.values.tobytes()
        symbols.put(form.codes, np.bincount(form.codes), head, tail)
    else:
        head += b"".join([_put_plane(plane, tail) for plane in reversed(_planes(words))][::-1])
    return bytes(head)


def _put_plane(plane: Array, tail: Tail) -> bytes:
    """A plane by its symbols where that is worth it; what comes first in the file is put last."""
    counts = np.bincount(plane, minlength=1)
    if symbols.cost(counts) >= WORTH * len(plane):
        tail.put(plane.tobytes())
        return number(0)
    head = bytearray(number(1))
    symbols.put(plane, counts, head, tail)
    return bytes(head)


def _get_plain(form: int, kind: str, count: int, head: Source, payload: Source) -> Array:
    if form == RAW:
        return payload.array(kind, count)
    if form == VALUES:
        values = head.array(kind, head.number(256))
        codes = symbols.get(count, head, payload)
        if len(values) <= int(codes.max(initial=0)):
            raise damaged(f"a number is the value {codes.max()} of {len(values)}")
        return values[codes]
    size = np.dtype(kind).itemsize
    split = np.empty((count, size), np.uint8)
    for place in reversed(range(size)):
        coded = head.number(1)
        split[:, place] = symbols.get(count, head, payload) if coded else payload.array("u1", count)
    return split.view(kind).ravel()
