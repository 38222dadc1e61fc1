"""Train, validation and test: rows go by their hash, so that a split is stable when data grow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from modelmill.data.cells import Array
from modelmill.data.hashing import hash_rows, hash_values, mix
from modelmill.data.target import for_task
from modelmill.dataset import Dataset, Splits

SHARES = (0.6, 0.2, 0.2)
"""Training, validation and test, where no test set is stated."""

STATED = (0.75, 0.25, 0.0)
"""Training and validation beside a stated test set."""

FAR = 0.5
"""How much of a part may be lost by keeping equal rows together; beyond, equal rows are parted."""


def split(data: Dataset, seed: int, task: str) -> Splits:
    """The data in three parts, with the target in the form that the task wants.

    Rows are ordered by hash(seed, row) within their class (task "classify") and cut 60/20/20; with a stated test set
    the rest is cut 75/25. Equal rows fall on one side. Groups stay together; with times, the newest rows are the test
    set. The parts keep the order of the data. A class with a single row has it in the training part.
    """
    data = for_task(data, task)
    shares = SHARES if data.test is None else STATED
    part = assign(data, seed, task, shares)
    train, valid, test = (data.take(np.flatnonzero(part == number)) for number in range(3))
    return Splits(train, valid, test if data.test is None else replace(data.test, findings=()), data.digest)


def assign(data: Dataset, seed: int, task: str, shares: tuple[float, float, float]) -> Array:
    """(rows,) the part of every row: 0 training, 1 validation, 2 test."""
    if data.times is not None:
        return by_time(data.times, data.groups, shares)
    if data.groups is not None:
        return cut(hash_values(data.groups, seed), shares)
    keys = hash_rows(data, seed)
    if task != "classify" or data.target is None:
        return _gentle(keys, shares)
    part = np.zeros(data.rows, np.int8)
    _, classes = np.unique(data.target.astype(str) if data.target.dtype == object else data.target, return_inverse=True)
    order = np.argsort(classes, kind="stable")
    for rows in np.split(order, np.cumsum(np.bincount(classes))[:-1]):
        part[rows] = _gentle(keys[rows], shares)
    return part


def by_time(times: Array, groups: Array | None, shares: tuple[float, float, float]) -> Array:
    """(rows,) the part of every row: the newest are the test set. A group goes by its newest row.

    >>> by_time(np.array([5, 1, 4, 2, 3]), None, (0.6, 0.2, 0.2)).tolist()
    [2, 0, 1, 0, 0]
    """
    keys = times.astype(np.int64)
    if groups is not None:
        _, members = np.unique(groups.astype(str), return_inverse=True)
        newest = np.full(members.max(initial=-1) + 1, np.iinfo(np.int64).min)
        np.maximum.at(newest, members, keys)
        order = np.lexsort((np.arange(len(newest)), newest))
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        keys = rank[members]
    return cut(keys, shares)


def _gentle(keys: Array, shares: tuple[float, float, float]) -> Array:
    """Cut with equal rows on one side, unless so many are equal that a part would be lost by it."""
    part = cut(keys, shares)
    wanted = np.array(sizes(len(keys), shares))
    if (np.abs(np.bincount(part, minlength=3) - wanted) <= np.maximum(FAR * wanted, 1)).all():
        return part
    order = np.argsort(keys, kind="stable")
    first = np.concatenate([[True], keys[order][1:] != keys[order][:-1]])
    starts = np.flatnonzero(first)
    occurrence = np.arange(len(keys)) - np.repeat(starts, np.diff([*starts, len(keys)]))
    apart = np.empty_like(keys)
    apart[order] = mix(keys[order] ^ mix(occurrence.astype(np.uint64)))
    return cut(apart, shares)


def cut(keys: Array, shares: tuple[float, float, float]) -> Array:
    """(rows,) the part of every row, in the order of the keys; rows of equal keys fall on one side.

    Every part gets a row as long as there are keys enough.

    >>> cut(np.array([30, 10, 20, 20]), (0.6, 0.2, 0.2)).tolist()
    [2, 0, 1, 1]
    """
    part = np.zeros(len(keys), np.int8)
    order = np.argsort(keys, kind="stable")
    edges = 1 + np.flatnonzero(keys[order][1:] != keys[order][:-1])
    if len(edges) == 0:
        return part
    train, valid, test = sizes(len(keys), shares)
    first = _nearest(edges[:-1] if test and len(edges) > 1 else edges, train)
    part[order[first:]] = 1
    later = edges[edges > first]
    if test and len(later):
        part[order[_nearest(later, train + valid) :]] = 2
    return part


def sizes(rows: int, shares: tuple[float, float, float]) -> tuple[int, int, int]:
    """How many rows each part gets: at least one each, training first, as far as the rows go.

    >>> sizes(10, SHARES), sizes(3, SHARES), sizes(2, SHARES), sizes(1, SHARES)
    ((6, 2, 2), (1, 1, 1), (1, 1, 0), (1, 0, 0))
    """
    valid = min(max(1, round(rows * shares[1])), max(rows - 1, 0))
    test = min(max(1, round(rows * shares[2])), max(rows - 1 - valid, 0)) if shares[2] else 0
    return rows - valid - test, valid, test


def _nearest(edges: Array, place: int) -> int:
    """The edge nearest to a place."""
    return int(edges[np.argmin(np.abs(edges - place))])
