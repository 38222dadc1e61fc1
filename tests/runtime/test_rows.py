from __future__ import annotations

from datetime import date, datetime
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmill.errors import RequestError
from modelmill.runtime.rows import check, to_columns, to_json, to_texts
from modelmill.runtime.values import milliseconds
from modelmill.signature import NO_DATE, Field, Signature
from modelmill.table import to_table

FIELDS = (
    Field("age", "FP32", nullable=True),
    Field("height", "FP32"),
    Field("count", "INT64"),
    Field("level", "UINT8"),
    Field("member", "BOOL", kind="boolean"),
    Field("maybe", "FP32", kind="boolean", nullable=True),
    Field("city", "BYTES", kind="category"),
    Field("note", "BYTES", kind="category", nullable=True),
    Field("born", "INT64", kind="date"),
    Field("left", "INT64", kind="date", nullable=True),
)
TABLE = Signature("classify", FIELDS, ())
ROW: dict[str, Any] = {
    "age": None,
    "height": 2,
    "count": 3,
    "level": 255,
    "member": True,
    "maybe": None,
    "city": "Bonn",
    "note": None,
    "born": "1970-01-02",
    "left": None,
}


def test_rows_become_columns_of_the_signatures_types() -> None:
    columns = to_columns([ROW, {**ROW, "age": 7.5, "maybe": False, "note": "x", "left": "1969-12-31T23:00Z"}], TABLE)
    assert {name: column.dtype.name for name, column in columns.items()} == {f.name: f.dtype for f in FIELDS}
    assert columns["height"].tolist() == [2, 2]
    assert np.isnan(columns["age"][0])
    assert columns["age"][1] == 7.5
    assert np.isnan(columns["maybe"][0])
    assert columns["maybe"][1] == 0
    assert columns["note"].tolist() == ["", "x"]
    assert columns["born"].tolist() == [86_400_000] * 2
    assert columns["left"].tolist() == [NO_DATE, -3_600_000]
    check(columns, TABLE)


def test_lists_in_signature_order_are_the_same_as_objects() -> None:
    first, second = to_columns([ROW] * 3, TABLE), to_columns([list(ROW.values()), ROW, tuple(ROW.values())], TABLE)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_many_rows_give_what_each_gives_alone() -> None:
    rows = [{**ROW, "height": i / 7, "age": None if i % 3 else i} for i in range(200)]
    many = to_columns(rows, TABLE)
    for name in ("height", "age"):
        np.testing.assert_array_equal(many[name], np.concatenate([to_columns([row], TABLE)[name] for row in rows]))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("age", True, "came true, expected a number or null"),
        ("age", "7", 'came "7", expected a number or null'),
        ("age", [1], "came a list of 1"),
        ("age", {"a": 1}, "came an object"),
        ("height", None, "came null, expected a number. This input takes no missing values"),
        ("height", float("nan"), "takes no missing values"),
        ("height", 1e39, "expected a number up to 3.4e"),
        ("height", float("inf"), "expected a number up to 3.4e"),
        ("height", 10**400, "expected a number up to 3.4e"),
        ("count", 2.5, "came 2.5, expected a whole number from -9223372036854775808"),
        ("count", 2**63, "came 9223372036854775808, expected a whole number"),
        ("count", 2.0**64, "came a number beyond 64 bits, about 1.8446744073709552e+19, expected a whole number"),
        ("count", -(2.0**53) - 2, "came -9007199254740994.0, expected a whole number"),
        ("count", True, "came true, expected a whole number"),
        ("count", None, "takes no missing values"),
        ("count", float("inf"), "expected a whole number"),
        ("level", 256, "expected a whole number from 0 to 255"),
        ("level", -1, "expected a whole number from 0 to 255"),
        ("member", 1, "came 1, expected true or false"),
        ("member", "true", "expected true or false"),
        ("maybe", 0.5, "expected true or false or null"),
        ("city", 5, "came 5, expected text"),
        ("city", "", "takes no missing values"),
        ("city", None, "takes no missing values"),
        ("born", "yesterday", "expected an ISO date such as 2024-05-31"),
        ("born", "2023-02-29", "expected an ISO date"),
        ("born", 5, "expected an ISO date"),
        ("born", None, "takes no missing values"),
        ("left", "", "expected an ISO date such as 2024-05-31 or 2024-05-31T12:00:00Z or null"),
    ],
)
@pytest.mark.parametrize("rows", [2, 100])
def test_a_value_that_does_not_fit_is_refused_by_row_and_field(field: str, value: Any, words: str, rows: int) -> None:
    with pytest.raises(RequestError) as caught:
        to_columns([*[ROW] * (rows - 1), {**ROW, field: value}], TABLE)
    assert caught.value.where == f"rows[{rows - 1}].{field}"
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "no rows"),
        ({"age": 1}, "expected a list of rows"),
        ("rows", "expected a list of rows"),
        ([ROW, 5], r"rows\[1\]: came 5, expected an object or a list"),
        ([ROW, [1, 2]], r"rows\[1\]: came a list of 2, expected 10"),
        ([{key: ROW[key] for key in ROW if key != "age"}], r"rows\[0\]: has no 'age'"),
        ([ROW, {**ROW, "agee": 1}], r'rows\[1\]: has "agee", which is no input. Inputs: age'),
        ([{}], r"rows\[0\]: has no 'age'"),
        ([None], r"rows\[0\]: came null"),
    ],
)
def test_rows_of_another_form_are_refused(rows: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        to_columns(rows, TABLE)


def test_whole_floats_are_whole_numbers() -> None:
    assert to_columns([{**ROW, "count": 3.0}], TABLE)["count"].tolist() == [3]


IMAGE = Signature("classify", (Field("image", "UINT8", (-1, 2, 2), "image"),), ())
PICTURE = [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "row", [PICTURE, [PICTURE], {"image": PICTURE}, np.array(PICTURE), {"image": np.array(PICTURE)}]
)
def test_an_image_may_come_bare_in_a_list_or_by_name(row: Any) -> None:
    column = to_columns([row, row], IMAGE)["image"]
    assert column.dtype == np.uint8
    assert column.tolist() == [PICTURE, PICTURE]


@pytest.mark.parametrize(
    ("picture", "where"),
    [
        ([[1, 2], [3, 400]], "rows[0].image[1][1]"),
        ([[1, 2], [3]], "rows[0].image[1]"),
        ([[1, 2]], "rows[0].image"),
        ([[1, 2], [3, None]], "rows[0].image[1][1]"),
        ([[1, 2], [True, 3]], "rows[0].image[1][0]"),
        ([[1, 2], [[3], 3]], "rows[0].image[1][0]"),
        (None, "rows[0].image"),
        ([], "rows[0].image"),
    ],
)
def test_an_image_of_another_form_is_refused_where_it_differs(picture: Any, where: str) -> None:
    with pytest.raises(RequestError) as caught:
        to_columns([{"image": picture}], IMAGE)
    assert caught.value.where == where


def test_a_wide_row_may_be_the_list_of_its_numbers() -> None:
    wide = Signature("regress", (Field("x", "FP32", (-1, 3), "array"),), ())
    assert to_columns([[1, 2, 3], [[4, 5, 6]]], wide)["x"].tolist() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(RequestError, match="a list of 2, expected a list of 3"):
        to_columns([[1, 2]], wide)


def test_values_of_python_and_numpy_are_taken_too() -> None:
    row = {**ROW, "height": np.float64(1.5), "count": np.int32(4), "member": np.True_, "city": np.str_("Ulm")}
    row |= {"born": date(1970, 1, 3), "left": np.datetime64("1970-01-01T00:00:01"), "age": float("nan")}
    columns = to_columns([row], TABLE)
    assert [columns[name].tolist()[0] for name in ("height", "count", "member", "city")] == [1.5, 4, True, "Ulm"]
    assert (columns["born"][0], columns["left"][0]) == (2 * 86_400_000, 1000)


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)))
def test_a_date_is_numpys_milliseconds(moment: datetime) -> None:
    assert milliseconds(moment.isoformat()) == np.datetime64(moment, "ms").astype(np.int64)


def test_an_offset_is_taken_off() -> None:
    assert milliseconds("2024-05-31T12:00:00+02:00") == milliseconds("2024-05-31T10:00:00Z")
    assert milliseconds("2024-05-31") == milliseconds("2024-05-31T00:00:00")


COLUMNS = Signature(
    "compute",
    (
        Field("a", "FP32", (-1, 1), "array", nullable=True),
        Field("b", "INT64", (-1, 1, 1), "array"),
        Field("c", "BYTES", (-1, 1), "category"),
    ),
    (),
)


@pytest.mark.parametrize("times", [1, 40])
def test_one_element_a_row_is_a_column_and_may_come_bare_or_in_a_list(times: int) -> None:
    rows = [{"a": 1, "b": 2, "c": "x"}, {"a": None, "b": 3, "c": "y"}] * times
    bare = to_columns(rows, COLUMNS)
    assert [bare[name].shape for name in "abc"] == [(2 * times, 1), (2 * times, 1, 1), (2 * times, 1)]
    assert (bare["b"].ravel().tolist()[:2], bare["c"].ravel().tolist()[:2]) == ([2, 3], ["x", "y"])
    assert np.isnan(bare["a"]).ravel().tolist() == [False, True] * times
    listed = [{"a": [row["a"]], "b": [[row["b"]]], "c": [row["c"]]} for row in rows]
    mixed = [listed[0], *rows[1:]]
    for others in (listed, mixed, [list(row.values()) for row in rows]):
        for name, column in to_columns(others, COLUMNS).items():
            np.testing.assert_array_equal(column, bare[name])


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("a", "1", r'rows\[1\].a: came "1", expected a number or null'),
        ("a", [1, 2], r"rows\[1\].a: came a list of 2, expected a list of 1"),
        ("b", None, r"rows\[1\].b: came null, .* takes no missing values"),
        ("b", [[[2]]], r"rows\[1\].b\[0\]\[0\]: came a list of 1, expected a whole number"),
        ("c", "", r'rows\[1\].c: came "", .* takes no missing values'),
    ],
)
def test_a_value_of_one_element_that_does_not_fit_is_refused(field: str, value: Any, words: str) -> None:
    row = {"a": 1, "b": 2, "c": "x"}
    with pytest.raises(RequestError, match=words):
        to_columns([row, {**row, field: value}], COLUMNS)


OPEN = Signature("compute", (Field("x", "BYTES", (-1, -1), "array"), Field("y", "FP32", (-1, -1, -1), "array")), ())


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[["a", "b"], [[1]]], [["c"] * 5, [[1]]]], r"rows\[1\].x: came a list of 5, expected a list of 2"),
        ([[["a"], [[1, 2], [3]]]], r"rows\[0\].y\[1\]: came a list of 1, expected a list of 2"),
        ([[["a"], [[1]]], [["a"], [[]]]], r"rows\[1\].y\[0\]: came a list of 0, expected a list of 1"),
        ([["a", [[1]]]], r'rows\[0\].x: came "a", expected a list'),
    ],
)
def test_sizes_that_are_left_open_are_those_of_the_first_row(rows: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        to_columns(rows, OPEN)


def test_a_row_may_be_empty_where_its_size_is_left_open() -> None:
    columns = to_columns([[[], []], [[], []]], OPEN)
    assert (columns["x"].shape, columns["y"].shape) == ((2, 0), (2, 0, 0))


def test_outputs_become_objects_with_names() -> None:
    signature = Signature("classify", (), (), (3, 4))
    outputs = {"label": np.array([4]), "probabilities": np.array([[0.25, 0.75]], np.float32)}
    assert to_json(outputs, signature) == [{"label": 4, "probabilities": {"3": 0.25, "4": 0.75}}]
    assert to_json({"value": np.array([1.5, 2.5], np.float32)}, Signature("regress", (), ())) == [
        {"value": 1.5},
        {"value": 2.5},
    ]


def test_an_output_of_one_element_a_row_is_one_value_and_what_has_classes_goes_by_their_names() -> None:
    shapes = {"probabilities": (-1, 1), "open": (-1, -1)}
    outputs = (Field("label", "INT64", (-1, 1)), *(Field(name, "FP32", shape) for name, shape in shapes.items()))
    given = {"label": np.array([[4]]), **{name: np.ones((1, 1), np.float32) for name in shapes}}
    signature = Signature("classify", (), outputs, (4,))
    assert to_json(given, signature) == [{"label": 4, "probabilities": {"4": 1.0}, "open": [1.0]}]
    table = to_table({**given, "scores": np.ones((1, 1), np.float32)}, signature)
    assert table.to_pylist() == [{"label": 4, "probability_4": 1.0, "open": [1.0], "scores": [1.0]}]


@given(st.lists(st.floats(width=32), min_size=1))
def test_a_number_of_32_bits_is_the_shortest_that_gives_it_again(numbers: list[float]) -> None:
    values = np.array(numbers, np.float32)
    found = [row["y"] for row in to_json({"y": values}, Signature("compute", (), ()))]
    assert found == [float(str(value)) if np.isfinite(value) else None for value in values]
    assert np.array(found, np.float32)[np.isfinite(values)].tolist() == values[np.isfinite(values)].tolist()


def test_numbers_of_every_width_become_values_of_json() -> None:
    outputs = {
        "single": np.array([[0.1, np.nan]], np.float32),
        "wide": np.broadcast_to(np.float32(0.3), (1, 1, 2)),
        "double": np.array([1 / 3]),
        "whole": np.array([[7]], np.uint8),
    }
    (row,) = to_json(outputs, Signature("compute", (), ()))
    assert row == {"single": [0.1, None], "wide": [[0.3, 0.3]], "double": 1 / 3, "whole": [7]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"height": np.zeros(2, np.float32)}, "different numbers of rows"),
        ({"height": np.zeros(1)}, "inputs.height: came float64, expected FP32"),
        ({"height": np.zeros((1, 1), np.float32)}, "inputs.height: came the shape"),
        ({"height": np.array([np.nan], np.float32)}, "missing values"),
        ({"city": np.array([""], object)}, "missing values"),
        ({"city": np.array([5], object)}, "no text"),
        ({"born": np.array([NO_DATE])}, "missing values"),
        ({"other": np.zeros(1)}, "'other' is no input"),
    ],
)
def test_columns_that_do_not_fit_are_refused(change: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        check({**to_columns([ROW], TABLE), **change}, TABLE)
    with pytest.raises(RequestError, match="'age' is not there"):
        check({}, TABLE)


def test_a_boolean_with_gaps_may_be_written_as_its_numbers() -> None:
    assert to_columns([{**ROW, "maybe": 1.0}, {**ROW, "maybe": 0}], TABLE)["maybe"].tolist() == [1, 0]


def test_a_column_that_had_to_be_renamed_may_go_by_its_own_name():
    from modelmill.signature import Field, Signature

    outputs = (Field("label", "INT64"), Field("probabilities", "FP32", (-1, 2)))
    signature = Signature("classify", (Field("label_in", "FP32"), Field("plug_in", "FP32")), outputs, (0, 1))
    for row in ({"label": 1.5, "plug_in": 2.0}, {"label_in": 1.5, "plug_in": 2.0}):
        assert to_columns([row], signature)["label_in"].tolist() == [1.5]
    with pytest.raises(RequestError, match="has no 'plug_in'"):
        to_columns([{"label": 1.5, "plug": 2.0}], signature)


def test_truths_of_an_array_are_true_and_false_and_nothing_else() -> None:
    signature = Signature("compute", (Field("x", "BOOL", (-1, 2), "array"),), (Field("y", "BOOL", (-1, 2)),))
    assert to_columns([[[True, False]]], signature)["x"].tolist() == [[True, False]]
    for value in (1, "a", None):
        with pytest.raises(RequestError, match=r"x\[0\]: came .*, expected true or false"):
            to_columns([[[value, False]]], signature)


def test_a_whole_number_that_a_float_cannot_tell_from_the_next_is_refused() -> None:
    signature = Signature("compute", (Field("n", "INT64"),), (Field("y", "INT64"),))
    assert to_columns([{"n": 9007199254740993}, {"n": 2.0}], signature)["n"].tolist() == [9007199254740993, 2]
    with pytest.raises(RequestError, match="expected a whole number"):
        to_columns([{"n": 9007199254740994.0}], signature)


def test_a_long_answer_is_written_in_pieces_to_the_same_json():
    count = 20_001
    probabilities = np.random.default_rng(0).random((count, 2), np.float32)
    outputs = {"label": np.array(["a", "b,"] * count, object)[:count], "probabilities": probabilities}
    signature = Signature("classify", (), (), ("a", "b,"))
    texts = list(to_texts(outputs, signature, count))
    assert max(map(len, texts)) < 1_000_000 < sum(map(len, texts))
    assert b"[%s]" % b"".join(texts) == orjson.dumps(to_json(outputs, signature))
