"""A 64-bit hash for every row, by its values alone: the same row, the same hash, wherever it stands."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from modelmill.data.cells import Array
from modelmill.dataset import Dataset
from modelmill.signature import Field

GAP = np.uint64(0x7FF8_0000_0000_0001)
"""The bits that stand for any NaN."""


def hash_rows(data: Dataset, seed: int) -> Array:
    """(rows,) uint64 hashes of the features. Numbers hash by value, so that an integer column may become a float one.

    >>> from modelmill.signature import Field
    >>> whole = Dataset((Field("a", "INT64"),), {"a": np.array([1, 2])})
    >>> broken = Dataset((Field("a", "FP32"),), {"a": np.array([1, 2], np.float32)})
    >>> bool((hash_rows(whole, 0) == hash_rows(broken, 0)).all())
    True
    """
    found = np.full(data.rows, np.uint64(seed & (2**64 - 1)), np.uint64)
    for field in data.fields:
        for words in _words(field, data.columns[field.name]):
            found = mix(found ^ words)
    return mix(found)


def hash_values(values: Array, seed: int) -> Array:
    """(rows,) uint64 hashes of one column: the groups of rows, say."""
    kind = "category" if values.dtype == object else "number"
    field = Field("values", "BYTES" if kind == "category" else "INT64", kind=kind)  # type: ignore[arg-type]
    found = np.full(len(values), np.uint64(seed & (2**64 - 1)), np.uint64)
    for words in _words(field, values):
        found = mix(found ^ words)
    return mix(found)


def mix(words: Array) -> Array:
    """Scramble 64-bit words so that every bit depends on every other (the finalizer of splitmix64)."""
    with np.errstate(over="ignore"):
        words = words + np.uint64(0x9E3779B97F4A7C15)
        words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        found: Array = words ^ (words >> np.uint64(31))
    return found


def _words(field: Field, values: Array) -> Iterator[Array]:
    """The column as (rows,) arrays of 64-bit words."""
    if values.dtype == object:
        yield _text_words(values)
    elif field.kind == "date":
        yield values.astype(np.int64).view(np.uint64)
    elif values.ndim == 1:
        yield _number_words(values)
    elif values.dtype.kind == "f":
        flat = values.reshape(len(values), -1)
        for number in range(flat.shape[1]):
            yield _number_words(flat[:, number])
    else:
        yield from _byte_words(values)


def _text_words(values: Array) -> Array:
    texts = values.tolist()
    known = {
        text: int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
        for text in set(texts)
    }
    return np.fromiter((known[text] for text in texts), np.uint64, len(texts))


def _number_words(values: Array) -> Array:
    floats = values.astype(np.float64) + 0.0
    words = floats.view(np.uint64)
    return np.where(np.isnan(floats), GAP, words)


def _byte_words(values: Array) -> Iterator[Array]:
    """Eight bytes at a time: pixels are many, and small."""
    flat = np.ascontiguousarray(values).reshape(len(values), -1).view(np.uint8)
    width = -(-flat.shape[1] // 8) * 8
    padded = np.zeros((len(flat), width), np.uint8)
    padded[:, : flat.shape[1]] = flat
    words = padded.view(np.uint64)
    for number in range(words.shape[1]):
        yield words[:, number]
