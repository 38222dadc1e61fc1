from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import KBinsDiscretizer, MinMaxScaler, OneHotEncoder, RobustScaler, StandardScaler

from modelmill.contracts import Array, Preparation
from modelmill.dataset import Dataset
from modelmill.errors import ContentError, OutOfBounds, SpecError
from modelmill.graph.build import to_onnx
from modelmill.method import decode
from modelmill.prepare import chain
from modelmill.prepare.bucket import Bucket
from modelmill.prepare.chain import Prepared, defaults, prepare
from modelmill.prepare.dates import Dates
from modelmill.prepare.flatten import Flatten
from modelmill.prepare.image import Image
from modelmill.prepare.impute import Impute
from modelmill.prepare.onehot import Onehot
from modelmill.prepare.scale import Scale
from modelmill.runtime.session import Session
from modelmill.signature import Field

RNG = np.random.default_rng(7)
NUMBERS = (RNG.normal(size=(60, 4)) * [1, 10, 1000, 0.01] + [0, 5, 1e4, 3]).astype(np.float32)


def numbers(values: Array) -> Dataset:
    fields = tuple(Field(f"x{i}", "FP32", nullable=True) for i in range(values.shape[1]))
    return Dataset(fields, {f"x{i}": np.ascontiguousarray(values[:, i]) for i in range(values.shape[1])})


def texts(*values: str) -> Dataset:
    return Dataset((Field("city", "BYTES", kind="category", nullable=True),), {"city": np.array(values, object)})


def run(prepared: Prepared, dataset: Dataset) -> Array:
    outputs = [Field("features", "FP32", (-1, *prepared.shape))]
    return Session(to_onnx(prepared.fragment, dataset.fields, outputs)).run(dataset.columns)["features"]


def fitted(steps: Sequence[Preparation], dataset: Dataset, kind: str = "table") -> Array:
    return run(prepare(steps, dataset, kind), dataset)


@pytest.mark.parametrize(
    ("by", "oracle"), [("standard", StandardScaler()), ("minmax", MinMaxScaler()), ("robust", RobustScaler())]
)
def test_scaling_agrees_with_scikit_learn(by: str, oracle: StandardScaler) -> None:
    found = fitted([decode("prepare", {"method": "scale", "by": by})], numbers(NUMBERS))
    np.testing.assert_allclose(found, oracle.fit_transform(NUMBERS.astype(np.float64)), atol=2e-5)


@pytest.mark.parametrize(("by", "strategy"), [("quantile", "quantile"), ("width", "uniform")])
def test_buckets_are_those_of_scikit_learn(by: str, strategy: str) -> None:
    data = numbers(NUMBERS)
    made = prepare([Bucket(by=by, count=6)], data, "table")  # type: ignore[arg-type]
    found = run(made, data).reshape(len(NUMBERS), 4, 5)
    oracle = KBinsDiscretizer(6, encode="ordinal", strategy=strategy, quantile_method="linear")
    assert np.array_equal(found.sum(axis=2), oracle.fit_transform(NUMBERS))
    assert (np.diff(found, axis=2) <= 0).all()
    assert made.labels[0].startswith("x0>")


def test_bounds_that_fall_together_are_one_and_gaps_are_above_none() -> None:
    few = np.array([[1, 5, np.nan]] * 30 + [[2, 5, np.nan]] * 10 + [[np.nan, 5, np.nan]] * 2, np.float32)
    made = prepare([Bucket()], numbers(few), "table")
    assert made.labels == ("x0>1",)
    assert run(made, numbers(few)).ravel().tolist() == [0] * 30 + [1] * 10 + [0, 0]


def test_flags_are_not_cut_into_buckets() -> None:
    city, size = texts("a", "b", "a"), numbers(np.array([[1], [2], [3]], np.float32))
    data = Dataset((*city.fields, *size.fields), {**city.columns, **size.columns})
    made = prepare([Onehot(), Bucket(count=3)], data, "table")
    assert sorted(made.labels) == ["city=a", "city=b", "x0>1.66667", "x0>2.33333"]


@pytest.mark.parametrize("strategy", ["median", "mean", "constant"])
def test_imputing_agrees_with_scikit_learn(strategy: str) -> None:
    values = NUMBERS.copy()
    values[RNG.random(values.shape) < 0.3] = np.nan
    oracle = SimpleImputer(strategy=strategy, fill_value=-2.0)
    found = fitted([decode("prepare", {"method": "impute", "numbers": strategy, "constant": -2})], numbers(values))
    np.testing.assert_allclose(found, oracle.fit_transform(values), rtol=1e-6)


def test_one_hot_agrees_with_scikit_learn_and_gives_zeros_for_what_it_never_saw() -> None:
    data = texts("b", "a", "", "b")
    prepared = prepare([Onehot()], data, "table")
    oracle = OneHotEncoder(sparse_output=False).fit_transform(data.columns["city"].reshape(-1, 1))
    assert prepared.labels == ("city=missing", "city=a", "city=b")
    assert run(prepared, data).tolist() == oracle.tolist()
    assert run(prepared, texts("zebra", "a")).tolist() == [[0, 0, 0], [0, 1, 0]]


def test_only_frequent_categories_get_a_column() -> None:
    data = texts(*"aaabbbccd")
    assert prepare([Onehot(max_categories=2)], data, "table").labels == ("city=a", "city=b")
    assert prepare([Onehot(min_count=2)], data, "table").labels == ("city=a", "city=b", "city=c")


def test_no_category_left_is_refused() -> None:
    with pytest.raises(SpecError, match="no feature is left"):
        prepare([Onehot(min_count=5)], texts("a", "b"), "table")


def test_a_missing_category_becomes_the_most_frequent_where_asked() -> None:
    data = texts("b", "a", "", "b")
    assert fitted([Impute(categories="frequent"), Onehot()], data).tolist() == [[0, 1], [1, 0], [0, 1], [0, 1]]


def test_an_indicator_says_what_was_missing() -> None:
    data = numbers(np.array([[1, np.nan], [3, 4]], np.float32))
    prepared = prepare([Impute(indicator=True)], data, "table")
    assert prepared.labels == ("x0", "x1", "x1 missing")
    assert run(prepared, data).tolist() == [[1, 4, 1], [3, 4, 0]]


def test_a_gap_that_training_never_had_is_filled_too() -> None:
    prepared = prepare([Impute()], numbers(np.array([[0], [1]], np.float32)), "table")
    assert run(prepared, numbers(np.array([[np.nan]], np.float32))).tolist() == [[0.5]]


def test_a_column_of_gaps_alone_becomes_a_constant() -> None:
    data = numbers(np.full((3, 2), np.nan, np.float32))
    assert fitted([Impute(), Scale()], data).tolist() == [[0, 0]] * 3


def test_a_constant_column_becomes_zero_and_is_not_blown_up_later() -> None:
    prepared = prepare([Scale()], numbers(np.full((5, 2), 0.1, np.float32)), "table")
    assert run(prepared, numbers(np.array([[0.1, 0.6]], np.float32)))[0].tolist() == pytest.approx([0, 0.5])


def test_an_absurd_value_stays_finite() -> None:
    prepared = prepare([Scale()], numbers(NUMBERS), "table")
    assert np.isfinite(run(prepared, numbers(np.full((1, 4), 3e38, np.float32)))).all()


def test_large_whole_numbers_are_told_apart() -> None:
    values = 1_700_000_000_000 + np.arange(8)
    data = Dataset((Field("id", "INT64"), Field("x", "FP32")), {"id": values, "x": np.zeros(8, np.float32)})
    found = fitted([Scale()], data)
    assert len(np.unique(found[:, prepare([Scale()], data, "table").labels.index("id")])) == 8


def test_columns_of_all_number_types_become_one_block() -> None:
    fields = (
        Field("count", "INT64"),
        Field("x", "FP32"),
        Field("yes", "BOOL", kind="boolean"),
        Field("small", "UINT8"),
        Field("wide", "FP32", (-1, 2), "array"),
    )
    columns = {
        "count": np.array([1, 2]),
        "x": np.array([0.5, 1.5], np.float32),
        "yes": np.array([True, False]),
        "small": np.array([7, 8], np.uint8),
        "wide": np.array([[3, 4], [5, 6]], np.float32),
    }
    prepared = prepare([], Dataset(fields, columns), "table")
    row = dict(zip(prepared.labels, run(prepared, Dataset(fields, columns))[1].tolist(), strict=True))
    assert row == {"count": 2, "x": 1.5, "yes": 0, "small": 8, "wide[0]": 5, "wide[1]": 6}


def test_numbers_cost_few_operations_however_many_columns() -> None:
    wide = numbers(RNG.normal(size=(20, 50)).astype(np.float32))
    steps = [decode("prepare", table) for table in defaults(wide.fields, "table")]
    assert len(prepare(steps, wide, "table").fragment.ops) <= 9


def test_one_row_gives_what_many_rows_give() -> None:
    data = numbers(NUMBERS)
    prepared = prepare([Impute(), Scale()], data, "table")
    many = run(prepared, data)
    assert (run(prepared, data.take(np.array([5])))[0] == many[5]).all()
    assert run(prepared, data.take(np.array([], np.int64))).shape == (0, 4)


IMAGE = Field("image", "UINT8", (-1, 2, 2), "image")
PIXELS = np.array([[[0, 50], [100, 200]], [[10, 20], [30, 40]]], np.uint8)


def test_pixels_are_scaled_by_the_largest_in_training() -> None:
    found = fitted([Image()], Dataset((IMAGE,), {"image": PIXELS}), "image")
    np.testing.assert_allclose(found, PIXELS[:, None] / 200, rtol=1e-6)


def test_channels_come_first_and_are_standardized_one_by_one() -> None:
    pixels = RNG.normal(size=(6, 4, 5, 3)).astype(np.float32) * [1, 20, 300] + [0, 7, -50]
    field = Field("image", "FP32", (-1, 4, 5, 3), "image")
    found = fitted([Image(by="standard")], Dataset((field,), {"image": pixels.astype(np.float32)}), "image")
    wanted = (pixels - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2))
    np.testing.assert_allclose(found, wanted.transpose(0, 3, 1, 2), atol=1e-5)


def test_images_are_flattened_for_tables_and_only_once() -> None:
    data = Dataset((IMAGE,), {"image": PIXELS})
    found = fitted([Image()], data)
    assert found.shape == (2, 4)
    assert found.tolist() == fitted([Image(), Flatten()], data).tolist()
    assert fitted([], data).tolist() == PIXELS.reshape(2, 4).tolist()


def test_images_of_another_rank_are_refused() -> None:
    field = Field("image", "UINT8", (-1, 2), "image")
    with pytest.raises(ContentError, match="height, width"):
        prepare([Image()], Dataset((field,), {"image": PIXELS[:, 0]}), "image")


@pytest.mark.parametrize(("kind", "step"), [("category", "onehot"), ("date", "dates")])
def test_a_column_that_no_step_takes_is_named_with_the_step_to_add(kind: str, step: str) -> None:
    field = Field("odd", "BYTES" if kind == "category" else "INT64", kind=kind)
    values = np.array(["a"], object) if kind == "category" else np.array([0])
    with pytest.raises(SpecError, match=f"'odd'.*{step}"):
        prepare([Scale()], Dataset((field,), {"odd": values}), "table")


def test_an_image_without_its_step_is_refused_and_so_is_a_table_for_an_image_body() -> None:
    with pytest.raises(SpecError, match='method = "image"'):
        prepare([], Dataset((IMAGE,), {"image": PIXELS}), "image")
    with pytest.raises(SpecError, match="the data are a table"):
        prepare([], numbers(NUMBERS), "image")


def test_a_column_may_not_be_called_features() -> None:
    field = Field("features", "FP32")
    with pytest.raises(SpecError, match="Rename"):
        prepare([], Dataset((field,), {"features": np.zeros(2, np.float32)}), "table")


def test_columns_named_like_inner_values_do_no_harm() -> None:
    fields = tuple(Field(name, "FP32", nullable=True) for name in ("concat_2", "constant_3", "sub_8", "isnan_5"))
    data = Dataset(fields, {f.name: NUMBERS[:, i].copy() for i, f in enumerate(fields)})
    assert (fitted([Impute(), Scale()], data) == fitted([Impute(), Scale()], numbers(NUMBERS))).all()


def test_the_same_rows_give_the_same_fragment(monkeypatch: pytest.MonkeyPatch) -> None:
    data = numbers(NUMBERS)
    first = prepare([Impute(), Scale()], data, "table").fragment
    monkeypatch.setattr(chain, "_kept", {})
    second = prepare([Impute(), Scale()], data, "table").fragment
    assert first is not second
    outputs = [Field("features", "FP32", (-1, 4))]
    assert to_onnx(first, data.fields, outputs) == to_onnx(second, data.fields, outputs)


def test_trials_share_a_preparation_of_equal_settings_and_rows() -> None:
    first = prepare([Scale()], numbers(NUMBERS), "table")
    assert prepare([Scale()], numbers(NUMBERS), "table") is first
    assert prepare([Scale(by="robust")], numbers(NUMBERS), "table") is not first
    assert prepare([Scale()], numbers(NUMBERS[1:]), "table") is not first


def test_a_long_table_is_fitted_on_rows_spread_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "FIT_ROWS", 11)
    data = numbers(np.arange(101, dtype=np.float32).reshape(-1, 1))
    found = fitted([Scale(by="minmax")], data)
    assert (found.min(), found.max()) == (0, 1)


def test_a_mixed_table_is_prepared_by_the_defaults() -> None:
    fields = (
        Field("x", "FP32", nullable=True),
        Field("city", "BYTES", kind="category"),
        Field("when", "INT64", kind="date"),
    )
    columns = {
        "x": np.array([1, np.nan, 3], np.float32),
        "city": np.array(["a", "b", "a"], object),
        "when": np.arange(3) * 40_000_000_000,
    }
    tables = defaults(fields, "table")
    assert [table["method"] for table in tables] == ["dates", "impute", "scale", "onehot"]
    found = fitted([decode("prepare", table) for table in tables], Dataset(fields, columns))
    assert found.shape == (3, 9)
    assert np.isfinite(found).all()
    assert defaults([IMAGE], "table") == [{"method": "image"}]


def test_a_setting_out_of_bounds_is_refused() -> None:
    with pytest.raises(OutOfBounds, match="max_categories"):
        Onehot(max_categories=0)
    with pytest.raises(OutOfBounds, match=r"scale\.by"):
        decode("prepare", {"method": "scale", "by": "loud"})
    with pytest.raises(OutOfBounds, match=r"dates\.parts"):
        Dates(parts=("century",))  # type: ignore[arg-type]
