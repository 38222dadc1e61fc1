from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmill.data.hashing import hash_rows
from modelmill.data.read import read
from modelmill.data.split import SHARES, assign, cut, split
from modelmill.dataset import Dataset, concat
from modelmill.errors import ContentError
from modelmill.signature import Field


def numbers(rows: int, seed: int = 0, **roles: object) -> Dataset:
    random = np.random.default_rng(seed)
    columns = {"a": random.normal(size=rows).astype(np.float32), "b": random.integers(0, 1000, rows)}
    target = np.where(columns["a"] > 0.5, "yes", "no").astype(object)
    return Dataset((Field("a", "FP32"), Field("b", "INT64")), columns, target, "y", **roles)  # type: ignore[arg-type]


def test_a_split_is_60_20_20_within_every_class() -> None:
    parts = split(numbers(1000), 0, "classify")
    total = (numbers(1000).target == "yes").sum()
    for part, share in zip((parts.train, parts.valid, parts.test), SHARES, strict=True):
        assert part.rows == pytest.approx(1000 * share, abs=1)
        assert (part.target == "yes").sum() == pytest.approx(total * share, abs=1)


def test_every_row_lands_in_one_part_and_keeps_its_target() -> None:
    data = numbers(200)
    parts = split(data, 3, "classify")
    together = concat(concat(parts.train, parts.valid), parts.test)
    assert sorted(together.columns["a"].tolist()) == sorted(data.columns["a"].tolist())
    assert ((together.columns["a"] > 0.5) == (together.target == "yes")).all()
    assert parts.digest == data.digest


def test_another_seed_gives_another_split_and_the_same_seed_the_same() -> None:
    data = numbers(300)
    assert split(data, 1, "classify").train == split(data, 1, "classify").train
    assert split(data, 1, "classify").train != split(data, 2, "classify").train


def test_the_order_of_rows_does_not_matter() -> None:
    data = numbers(300)
    order = np.random.default_rng(1).permutation(300)
    assert (assign(data.take(order), 0, "classify", SHARES) == assign(data, 0, "classify", SHARES)[order]).all()


def test_a_split_is_stable_when_data_grow() -> None:
    before, after = numbers(2000), concat(numbers(2000), numbers(200, seed=1))
    same = assign(before, 0, "classify", SHARES) == assign(after, 0, "classify", SHARES)[:2000]
    assert same.mean() > 0.95


def test_a_column_that_gets_its_first_gap_leaves_the_split_as_it_was() -> None:
    data = numbers(100)
    columns = {**data.columns, "b": data.columns["b"].astype(np.float32)}
    gaps = Dataset((data.fields[0], Field("b", "FP32", nullable=True)), columns, data.target, "y")
    assert (hash_rows(data, 5) == hash_rows(gaps, 5)).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=200))
def test_rows_of_equal_keys_fall_on_one_side_and_no_part_is_empty_without_need(keys: list[int]) -> None:
    part = cut(np.array(keys), SHARES)
    assert all(len(set(part[np.array(keys) == key])) == 1 for key in keys)
    assert len(set(part.tolist())) == min(3, len(set(keys)))


def test_equal_rows_fall_on_one_side() -> None:
    data = concat(numbers(100), numbers(100))
    part = assign(data, 0, "classify", SHARES)
    assert (part[:100] == part[100:]).all()


def test_rows_that_are_nearly_all_equal_are_parted_for_want_of_others() -> None:
    columns = {"a": np.tile(np.array([0, 1]), 50)}
    data = Dataset((Field("a", "INT64"),), columns, np.tile(np.array(["x", "z"], object), 50), "y")
    assert np.bincount(assign(data, 0, "classify", SHARES)).tolist() == [60, 20, 20]


def test_groups_stay_together() -> None:
    groups = np.array([f"g{i % 17}" for i in range(300)], dtype=object)
    part = assign(numbers(300, groups=groups), 0, "classify", SHARES)
    assert all(len(set(part[groups == group])) == 1 for group in set(groups))
    assert len(set(part)) == 3


def test_time_cuts_so_that_the_newest_rows_are_the_test_set() -> None:
    times = np.random.default_rng(0).permutation(100).astype(np.int64)
    parts = split(numbers(100, times=times), 0, "classify")
    assert parts.train.times.max() < parts.valid.times.min()
    assert parts.valid.times.max() < parts.test.times.min()
    assert parts.test.rows == 20


def test_a_stated_test_set_is_never_split() -> None:
    test = numbers(10, seed=9)
    parts = split(numbers(100, test=test), 0, "classify")
    assert parts.test == test
    assert (parts.train.rows, parts.valid.rows) == (75, 25)


def test_a_class_with_a_single_row_has_it_in_training() -> None:
    data = numbers(50)
    data.target[7] = "only"
    assert "only" in split(data, 0, "classify").train.target.tolist()


def test_images_are_split_by_their_pixels() -> None:
    data = read({"method": "builtin", "name": "digits"})
    parts = split(data, 0, "classify")
    assert (parts.train.rows, parts.valid.rows, parts.test.rows) == (1079, 359, 359)
    assert (hash_rows(data, 0) == hash_rows(data.take(np.arange(data.rows)), 0)).all()


def test_targets_get_the_form_of_their_task() -> None:
    data = read({"method": "builtin", "name": "diabetes"})
    assert split(data, 0, "regress").train.target.dtype == np.float32
    with pytest.raises(ContentError, match="the target holds text"):
        split(numbers(20), 0, "regress")
