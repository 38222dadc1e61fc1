from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import csv, parquet

from modelmill.data.read import read, read_for
from modelmill.data.stream import Mark, Stream
from modelmill.dataset import Dataset
from modelmill.errors import ContentError, SourceError, UnknownName
from modelmill.signature import NO_DATE, Field, Signature

INPUTS = (
    Field("age", "INT64"),
    Field("value_in", "FP32", nullable=True),
    Field("city", "BYTES", kind="category"),
    Field("since", "INT64", kind="date", nullable=True),
    Field("paid", "BOOL", kind="boolean"),
)
SIGNATURE = Signature("classify", INPUTS, (), ("a", "b"), "y")
GOOD = "id,paid,since,city,value,age,y\n9,true,2026-01-31,7,,41,a\n8,0,,Rome,2.5,42.0,b\n"


def rows(folder: Path, text: str, labeled: bool = False) -> Dataset:
    (folder / "rows.csv").write_text(text)
    return read_for(SIGNATURE, folder / "rows.csv", labeled)


def test_rows_get_the_fields_of_the_signature_by_name(tmp_path: Path) -> None:
    data = rows(tmp_path, GOOD)
    assert data.fields == INPUTS
    assert data.columns["age"].tolist() == [41, 42]
    assert data.columns["city"].tolist() == ["7", "Rome"]
    assert data.columns["since"].tolist() == [1769817600000, NO_DATE]
    assert data.columns["paid"].tolist() == [True, False]
    assert np.isnan(data.columns["value_in"][0])
    assert all(data.columns[field.name].dtype == field.dtype for field in INPUTS)
    assert data.target is None


def test_the_target_is_read_where_it_is_asked_for(tmp_path: Path) -> None:
    assert rows(tmp_path, GOOD, labeled=True).target.tolist() == ["a", "b"]
    with pytest.raises(UnknownName, match="target column"):
        rows(tmp_path, GOOD.replace(",y\n", ",z\n"), labeled=True)


@pytest.mark.parametrize(("old", "new"), [("42.0", "old"), ("42.0", ""), ("true", "perhaps"), ("2026-01-31", "31.1.")])
def test_what_to_try_is_what_a_model_that_is_made_allows(tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(ContentError) as said:
        rows(tmp_path, GOOD.replace(old, new))
    assert said.value.hint in ("Correct the value.", "Fill in the value.")
    assert "saw" not in str(said.value)
    with pytest.raises(ContentError, match=r"a header and no rows\. Give a file with rows below it\.$"):
        rows(tmp_path, GOOD.partition("\n")[0] + "\n")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("42.0", "42.5", "line 3: age is 42.5; expected a whole number"),
        ("42.0", "old", "line 3: the value of age is 'old'; expected a number"),
        ("42.0", "", "line 3: age is missing"),
        ("Rome", "", "line 3: city is missing"),
        ("2026-01-31", "31.1.2026", "line 2: the value of since is '31.1.2026'; expected a date"),
        ("true", "perhaps", "line 2: the value of paid is 'perhaps'; expected true or false"),
        ("2.5", "1e99", "line 3: value is 1e[+]99; expected a finite number"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(ContentError, match=words):
        rows(tmp_path, GOOD.replace(old, new, 1))


def test_a_column_that_is_not_there_is_refused_with_the_closest(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"the column 'age' is missing.*Did you mean ages"):
        rows(tmp_path, GOOD.replace(",age,", ",ages,", 1))


def test_parquet_rows_name_the_row(tmp_path: Path) -> None:
    table = pyarrow.table({"a": [1.0, None], "b": ["x", "y"]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    signature = Signature("regress", (Field("a", "FP32"),), ())
    with pytest.raises(ContentError, match="row 2: a is missing"):
        read_for(signature, tmp_path / "rows.parquet")


def test_a_wide_table_fills_one_tensor_in_the_order_of_its_columns(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,y,b\n1,0,2\n3,1,4\n")
    signature = Signature("classify", (Field("x", "FP32", (-1, 2), "array"),), (), (0, 1), "y")
    data = read_for(signature, tmp_path / "rows.csv", labeled=True)
    assert data.columns["x"].tolist() == [[1, 2], [3, 4]]
    assert data.target.tolist() == [0, 1]
    (tmp_path / "rows.csv").write_text("a\n1\n")
    with pytest.raises(ContentError, match="has 1 columns beside the target; expected 2"):
        read_for(signature, tmp_path / "rows.csv")


COLUMNS = Signature(
    "compute",
    (
        Field("a", "FP32", (-1, 1), "array", nullable=True),
        Field("b", "INT32", (-1, 1, 1), "array"),
        Field("c", "BYTES", (-1, 1), "category", nullable=True),
        Field("d", "BOOL", (-1, 1), "array"),
    ),
    (),
)
TEXT = "id,c,b,a,d\n9,7,1,2.5,yes\n8,,-3,,0\n"


def column_rows(folder: Path, text: str, name: str) -> Dataset:
    (folder / "rows.csv").write_text(text)
    if name == "rows.parquet":
        parquet.write_table(csv.read_csv(folder / "rows.csv"), folder / name)
    if name == "rows.npz":
        values = {"a": [2.5, np.nan], "b": [1, -3], "c": ["7", ""], "d": [True, False]}
        np.savez(folder / name, **{key: np.array(value) for key, value in values.items()})
    return read_for(COLUMNS, folder / name)


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "rows.npz"])
def test_an_input_of_one_element_a_row_is_a_column_of_a_table(tmp_path: Path, name: str) -> None:
    data = column_rows(tmp_path, TEXT, name)
    assert [data.columns[key].shape for key in "abcd"] == [(2, 1), (2, 1, 1), (2, 1), (2, 1)]
    assert [data.columns[key].dtype.name for key in "abcd"] == ["float32", "int32", "object", "bool"]
    assert data.columns["a"][0] == 2.5
    assert np.isnan(data.columns["a"][1])
    assert data.columns["b"].ravel().tolist() == [1, -3]
    assert data.columns["c"].tolist() == [["7"], [""]]
    assert data.columns["d"].tolist() == [[True], [False]]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("-3", "-3.5", "line 3: b is -3.5; expected a whole number from -2147483648 to 2147483647"),
        ("-3", "3000000000", "line 3: b is 3000000000; expected a whole number from"),
        ("-3", "", "line 3: b is missing"),
        (",0\n", ",2\n", "line 3: the value of d is '2'; expected true or false"),
        ("id,c,b,a,d", "id,c,b,e,d", "the column 'a' is missing"),
    ],
)
def test_a_value_of_such_a_column_that_does_not_fit_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises((ContentError, UnknownName), match=words):
        column_rows(tmp_path, TEXT.replace(old, new, 1), "rows.csv")


def test_arrays_that_a_table_cannot_hold_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,x\n1,2\n")
    signature = Signature("compute", (Field("a", "FP32"), Field("x", "FP32", (-1, 3), "array")), ())
    with pytest.raises(ContentError, match=r"a table cannot hold 'x', of which a row has the shape \[3\]"):
        read_for(signature, tmp_path / "rows.csv")


def test_a_table_of_one_tensor_is_taken_in_order_and_leaves_nothing_out(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("b,a\n07,2\n,4\n")
    texts = Signature("compute", (Field("x", "BYTES", (-1, 2), "category", True),), ())
    assert read_for(texts, tmp_path / "rows.csv").columns["x"].tolist() == [["07", "2"], ["", "4"]]
    sounds = Signature("compute", (Field("x", "FP64", (-1, -1), "sequence", True),), ())
    assert read_for(sounds, tmp_path / "rows.csv").columns["x"].shape == (2, 2)
    with pytest.raises(ContentError, match="has 2 columns beside the target; expected 3, which are x together"):
        read_for(Signature("compute", (Field("x", "FP32", (-1, 3), "array"),), ()), tmp_path / "rows.csv")
    with pytest.raises(ContentError, match=r"a table cannot hold 'x', of which a row has the shape \[-1, 2\]"):
        read_for(Signature("compute", (Field("x", "FP32", (-1, -1, 2), "array"),), ()), tmp_path / "rows.csv")


def test_a_first_row_where_no_names_are_looked_at_is_refused_and_not_lost(tmp_path: Path) -> None:
    numbers, texts = (
        Signature("compute", (Field("x", datatype, (-1, 3), kind, True),), ())
        for datatype, kind in (("FP32", "array"), ("BYTES", "category"))
    )
    path = tmp_path / "rows.csv"
    path.write_text("5.1;NA;1.4\n4.9;3;1.4\n")
    words = r"rows.csv line 1: holds numbers alone \(5.1, NA, 1.4\), as a row does.*Put a line of names above the rows"
    with pytest.raises(ContentError, match=words):
        read_for(numbers, path)
    with pytest.raises(ContentError, match=words):
        list(Stream(path).blocks(numbers, Mark()))
    assert read_for(texts, path).rows == 1
    path.write_text("0,1,2\n4.9,3,1.4\n")
    assert read_for(numbers, path).rows == 1
    (block,) = Stream(path).blocks(numbers, Mark())
    assert block.dataset(numbers).rows == 1


def test_a_table_of_one_tensor_keeps_the_types_of_its_values(tmp_path: Path) -> None:
    """Also where a column is called as the tensor is."""
    (tmp_path / "rows.csv").write_text("x,y\n1,255\n3,0\n")
    pixels = Signature("compute", (Field("x", "UINT8", (-1, 2), "array"),), ())
    assert read_for(pixels, tmp_path / "rows.csv").columns["x"].tolist() == [[1, 255], [3, 0]]
    (tmp_path / "rows.csv").write_text("x,y\n1,255\n3,256\n")
    with pytest.raises(ContentError, match="line 3: y is 256; expected a whole number from 0 to 255"):
        read_for(pixels, tmp_path / "rows.csv")


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "rows.jsonl"])
def test_whole_numbers_of_64_bits_are_read_to_the_last_digit(tmp_path: Path, name: str) -> None:
    values = {"INT64": [2**53 + 1, 2**63 - 1, -(2**63)], "UINT64": [2**64 - 1, 2**63 + 1, 0]}
    fields = tuple(Field(kind, kind, (-1, 1)) for kind in values)
    table = pyarrow.table({kind: pyarrow.array(found, kind.lower()) for kind, found in values.items()})
    if name == "rows.parquet":
        parquet.write_table(table, tmp_path / name)
    elif name == "rows.csv":
        lines = ["INT64, UINT64", *(f"{row['INT64']}, {row['UINT64']}" for row in table.to_pylist())]
        (tmp_path / name).write_text("\n".join(lines))
    else:
        (tmp_path / name).write_text("\n".join(map(json.dumps, table.to_pylist())))
    data = read_for(Signature("compute", fields, ()), tmp_path / name)
    assert [data.columns[kind].dtype.name for kind in values] == ["int64", "uint64"]
    assert {kind: column.ravel().tolist() for kind, column in data.columns.items()} == values
    if name == "rows.csv":
        (tmp_path / name).write_text("a,b\n1,18446744073709551615\n")
        block = Signature("compute", (Field("x", "UINT64", (-1, 2)),), ())
        assert read_for(block, tmp_path / name).columns["x"].tolist() == [[1, 2**64 - 1]]
        (tmp_path / name).write_text("a,b\n1,18446744073709551616\n")
        with pytest.raises(ContentError, match=r"line 2: b is a number beyond 64 bits, about 1.8.*whole number from 0"):
            read_for(block, tmp_path / name)


def test_arrays_must_have_the_shape_and_hold_the_values(tmp_path: Path) -> None:
    signature = Signature("classify", (Field("image", "UINT8", (-1, 2, 2), "image"),), (), (0, 1), "y")
    path = tmp_path / "rows.npz"
    np.savez(path, x=np.full((3, 2, 2), 200), y=np.array([0, 1, 1]))
    data = read_for(signature, path, labeled=True)
    assert (data.columns["image"].dtype, data.target.tolist()) == (np.uint8, [0, 1, 1])
    np.savez(path, x=np.full((3, 2, 2), 256))
    with pytest.raises(ContentError, match="row 1: holds a value that UINT8 cannot hold"):
        read_for(signature, path)
    np.savez(path, x=np.zeros((3, 4, 4)))
    with pytest.raises(ContentError, match=r"has the shape \[3, 4, 4\]; expected \[-1, 2, 2\]"):
        read_for(signature, path)


def test_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(SourceError, match="no such file"):
        read_for(SIGNATURE, "nowhere.csv")


def test_rows_that_were_trained_on_read_back_the_same(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b,c,y\n1,x,2026-01-01,0\n2.5,,2026-01-02T10:00:00+02:00,1\n,z,,0\n")
    data = read({"method": "csv", "path": str(tmp_path / "rows.csv")})
    signature = Signature("classify", data.fields, (), (0, 1), "y")
    again = read_for(signature, tmp_path / "rows.csv", labeled=True)
    assert again == data


def test_a_builtin_set_gives_rows_too() -> None:
    data = read({"method": "builtin", "name": "iris"})
    signature = Signature("classify", data.fields, (), ("setosa", "versicolor", "virginica"), "target")
    assert read_for(signature, "iris", labeled=True) == data
    with pytest.raises(UnknownName, match=r"'sepal length .cm.' is missing"):
        read_for(signature, "wine")


def test_what_is_learned_from_is_never_the_stated_test_set(tmp_path):
    signature = Signature("classify", (Field("x", "UINT8", (-1, 2, 2), "image"),), (), (0, 1), "y")
    for stem, rows, value in (("train", 6, 1), ("t10k", 4, 2)):
        idx = struct.pack(">4I", 0x803, rows, 2, 2) + bytes([value]) * rows * 4
        (tmp_path / f"{stem}-images-idx3-ubyte").write_bytes(idx)
        (tmp_path / f"{stem}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, rows) + bytes(rows))
    judged = read_for(signature, tmp_path, labeled=True)
    learned = read_for(signature, tmp_path, labeled=True, learned=True)
    assert (judged.rows, judged.test, set(judged.columns["x"].flat)) == (4, None, {2})
    assert (learned.rows, learned.test.rows, set(learned.columns["x"].flat)) == (6, 4, {1})
    x, y = np.ones((6, 2, 2), np.uint8), np.zeros(6, int)
    np.savez(tmp_path / "rows.npz", x=x, y=y, x_test=x[:4] + 1, y_test=y[:4])
    learned = read_for(signature, tmp_path / "rows.npz", labeled=True, learned=True)
    assert (learned.rows, learned.test.rows, set(learned.test.columns["x"].flat)) == (6, 4, {2})
    assert read_for(signature, tmp_path / "rows.npz", labeled=True).test is None


def test_a_class_with_a_fraction_is_refused_and_not_cut(tmp_path):
    signature = Signature("classify", (Field("x", "FP32"),), (), (0, 1), "y")
    np.savez(tmp_path / "rows.npz", x=np.ones(3, np.float32), y=np.array([0, 1, 1.5]))
    with pytest.raises(ContentError, match=r"y row 3: came 1\.5; expected one of the model's classes"):
        read_for(signature, tmp_path / "rows.npz", labeled=True)
    np.savez(tmp_path / "rows.npz", x=np.ones(3, np.float32), y=np.array([0.0, 1.0, 1.0]))
    assert read_for(signature, tmp_path / "rows.npz", labeled=True).target.tolist() == [0, 1, 1]
