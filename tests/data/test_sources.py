from __future__ import annotations

import gzip
import struct
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from modelmill.data.read import read
from modelmill.data.source import default_name, guess
from modelmill.errors import ContentError, SourceError, UnknownName, UsageError
from modelmill.signature import NO_DATE, Field

FASHION = Path("/usr/share/datasets/fashion-mnist")


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def idx_folder(folder: Path, rows: int = 6, with_test: bool = True) -> Path:
    images = np.arange(rows * 4).reshape(rows, 2, 2)
    for stem in ("train", "t10k") if with_test else ("train",):
        (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(idx(np.arange(rows) % 2))
    return folder


def npz(folder: Path, **arrays: np.ndarray) -> str:
    path = folder / "rows.npz"
    np.savez(path, **arrays)
    return str(path)


def test_digits_are_images_with_integer_labels() -> None:
    data = read({"method": "builtin", "name": "digits"})
    assert data.fields == (Field("image", "FP32", (-1, 8, 8), "image"),)
    assert (data.rows, data.target.dtype, data.columns["image"].max()) == (1797, np.int64, 16)


@pytest.mark.parametrize(
    ("name", "rows", "features", "labels"),
    [
        ("iris", 150, 4, ["setosa", "versicolor", "virginica"]),
        ("wine", 178, 13, ["class_0", "class_1", "class_2"]),
        ("breast_cancer", 569, 30, ["benign", "malignant"]),
    ],
)
def test_sets_with_names_have_text_labels(name: str, rows: int, features: int, labels: list[str]) -> None:
    data = read({"method": "builtin", "name": name})
    assert (data.rows, len(data.fields)) == (rows, features)
    assert sorted(set(data.target.tolist())) == labels
    assert {field.datatype for field in data.fields} == {"FP32"}


def test_columns_of_builtin_sets_are_called_as_in_scikit_learn() -> None:
    data = read({"method": "builtin", "name": "iris"})
    assert data.fields[0].name == "sepal length (cm)"
    assert [field.name for field in read({"method": "builtin", "name": "diabetes"}).fields][-1] == "s6"


def test_an_unknown_builtin_set_is_refused_with_the_closest() -> None:
    with pytest.raises(UnknownName, match="Did you mean digits"):
        read({"method": "builtin", "name": "digit"})


def test_a_builtin_set_takes_a_stated_test_file(tmp_path: Path) -> None:
    header = "sepal length (cm),sepal width (cm),petal length (cm),petal width (cm),target"
    (tmp_path / "test.csv").write_text(f"{header}\n5,3,1,0.5,setosa\n")
    data = read({"method": "builtin", "name": "iris", "test": str(tmp_path / "test.csv")})
    assert data.test.columns["petal width (cm)"].tolist() == [0.5]
    digits = npz(tmp_path, x=np.zeros((2, 8, 8)), y=np.array([1, 2]))
    assert read({"method": "builtin", "name": "digits", "test": digits}).test.target.tolist() == [1, 2]


def test_parquet_gives_dates_from_timestamps_alone(tmp_path: Path) -> None:
    moment = datetime(2026, 1, 31, 1, tzinfo=UTC)
    table = pyarrow.table(
        {
            "at": pyarrow.array([moment, None], pyarrow.timestamp("us", tz="Europe/Rome")),
            "text": ["2026-01-31", "2026-02-01"],
            "flag": [True, False],
            "kind": pyarrow.array(["a", None]).dictionary_encode(),
            "y": [1.5, 2.5],
        }
    )
    parquet.write_table(table, tmp_path / "rows.parquet")
    data = read({"method": "parquet", "path": str(tmp_path / "rows.parquet")})
    assert data.fields == (
        Field("at", "INT64", kind="date", nullable=True),
        Field("text", "BYTES", kind="category"),
        Field("flag", "BOOL", kind="boolean"),
        Field("kind", "BYTES", kind="category", nullable=True),
    )
    assert data.columns["at"].tolist() == [1769821200000, NO_DATE]
    assert data.target.dtype == np.float32


def test_parquet_parts_make_one_table_and_nested_columns_are_left_out(tmp_path: Path) -> None:
    for number in (1, 2):
        table = pyarrow.table({"a": [number], "nested": [[1, 2]], "y": [bool(number % 2)]})
        parquet.write_table(table, tmp_path / f"part-{number}.parquet")
    data = read({"method": "parquet", "path": str(tmp_path)})
    assert data.columns["a"].tolist() == [1, 2]
    assert data.target.tolist() == ["true", "false"]
    assert any("nested" in finding.where and finding.severity == "warning" for finding in data.findings)


def test_a_corrupt_parquet_footer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"a": list(range(100)), "y": list(range(100))}), path)
    content = bytearray(path.read_bytes())
    content[-40:-8] = b"\xff" * 32
    path.write_bytes(content)
    with pytest.raises(SourceError, match="no whole Parquet file"):
        read({"method": "parquet", "path": str(path)})
    path.write_bytes(bytes(content[:-20]))
    with pytest.raises(SourceError, match="no whole Parquet file"):
        read({"method": "parquet", "path": str(path)})
    path.write_bytes(b"")
    with pytest.raises(SourceError, match="is empty"):
        read({"method": "parquet", "path": str(path)})


def test_a_parquet_table_without_rows_is_refused(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"a": pyarrow.array([], pyarrow.int64())}), tmp_path / "rows.parquet")
    with pytest.raises(ContentError, match="columns and no rows"):
        read({"method": "parquet", "path": str(tmp_path / "rows.parquet")})


def test_npz_holds_rows_and_a_stated_test_set(tmp_path: Path) -> None:
    x = np.array([[1.0, np.nan], [3.0, 4.0]])
    data = read({"method": "npz", "path": npz(tmp_path, x=x, y=["a", "b"], x_test=x[:1], y_test=["a"])})
    assert data.fields == (Field("x", "FP32", (-1, 2), "array", True),)
    assert data.target.tolist() == ["a", "b"]
    assert data.test.rows == 1


def test_npz_images_keep_their_raw_pixels(tmp_path: Path) -> None:
    images = np.arange(2 * 3 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3, 3)
    data = read({"method": "npz", "path": npz(tmp_path, x=images, y=[0, 1])})
    assert data.fields == (Field("image", "UINT8", (-1, 3, 3, 3), "image"),)
    assert np.array_equal(data.columns["image"], images)


def test_pickled_objects_are_refused_and_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "sprung",))  # type: ignore[return-value]

    path = npz(tmp_path, x=np.array([Trap(), Trap()], dtype=object), y=np.array([1, 2]))
    with pytest.raises(SourceError, match=r"rows\.npz: x: holds pickled objects"):
        read({"method": "npz", "path": path})
    assert not (tmp_path / "sprung").exists()


def test_a_damaged_or_wrong_npz_is_refused(tmp_path: Path) -> None:
    path = Path(npz(tmp_path, x=np.ones((50, 50)), y=np.ones(50)))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(SourceError, match=r"no \.npz file"):
        read({"method": "npz", "path": str(path)})
    path.write_bytes(content[:200] + b"\xff" * 100 + content[300:])
    with pytest.raises(SourceError, match="cannot be read"):
        read({"method": "npz", "path": str(path)})


def test_npz_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="no array 'y'"):
        read({"method": "npz", "path": npz(tmp_path, x=np.ones((2, 2)))})
    with pytest.raises(ContentError, match="2 rows of features and 3 targets"):
        read({"method": "npz", "path": npz(tmp_path, x=np.ones((2, 2)), y=np.ones(3))})
    with pytest.raises(ContentError, match="has the shape"):
        read({"method": "npz", "path": npz(tmp_path, x=np.ones((2, 2, 2, 2, 2)), y=np.ones(2))})
    x, y = np.ones((2, 2)), np.ones(2)
    with pytest.raises(ContentError, match="the test set has rows of the shape"):
        read({"method": "npz", "path": npz(tmp_path, x=x, y=y, x_test=np.ones((2, 3)), y_test=y)})
    with pytest.raises(UnknownName, match="target array"):
        read({"method": "npz", "path": npz(tmp_path, x=np.ones((2, 2)), y=np.ones(2)), "target": "z"})


def test_an_idx_folder_has_raw_pixels_and_its_own_test_set(tmp_path: Path) -> None:
    data = read({"method": "idx", "path": str(idx_folder(tmp_path))})
    assert data.fields == (Field("image", "UINT8", (-1, 2, 2), "image"),)
    assert data.columns["image"][1].tolist() == [[4, 5], [6, 7]]
    assert data.test.target.tolist() == [0, 1, 0, 1, 0, 1]


def test_a_file_of_images_finds_its_labels(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path, with_test=False)
    data = read({"method": "idx", "path": str(folder / "train-images-idx3-ubyte.gz")})
    assert (data.rows, data.test) == (6, None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\x89PNG" + b"\0" * 60, "magic number 0x89504e47"),
        (idx(np.zeros((6, 2, 2)))[:-1], "holds 23 bytes of values; expected 24"),
        (idx(np.zeros((6, 2, 2))) + b"\0", "more than 24 bytes"),
        (idx(np.zeros((6, 2, 2)))[:9], "ends within its header"),
    ],
)
def test_a_damaged_idx_file_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(6)))
    with pytest.raises(SourceError, match=words):
        read({"method": "idx", "path": str(tmp_path)})


def test_idx_labels_that_are_not_there_are_asked_for_by_name(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((6, 2, 2))))
    with pytest.raises(SourceError, match="Expected train-labels-idx1-ubyte"):
        read({"method": "idx", "path": str(tmp_path)})


def test_arrays_and_images_have_no_columns_to_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no columns to name"):
        read({"method": "idx", "path": str(idx_folder(tmp_path)), "group": "who"})


@pytest.mark.skipif(not FASHION.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_fashion_mnist_is_read_from_its_idx_files() -> None:
    data = read(guess(str(FASHION)))
    assert (data.rows, data.test.rows, data.fields[0].shape) == (60000, 10000, (-1, 28, 28))
    assert np.bincount(data.test.target).tolist() == [1000] * 10


def test_a_source_is_guessed_from_its_name_or_content(tmp_path: Path) -> None:
    assert guess("iris") == {"method": "builtin", "name": "iris"}
    for name, method in [("a.csv", "csv"), ("b.tsv.gz", "csv"), ("c.parquet", "parquet"), ("d.npz", "npz")]:
        (tmp_path / name).touch()
        assert guess(str(tmp_path / name)) == {"method": method, "path": str(tmp_path / name)}
    for name, method in [("parts/1.csv", "csv"), ("images/train-images-idx3-ubyte.gz", "idx")]:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
        assert guess(str((tmp_path / name).parent))["method"] == method


def test_an_unknown_name_and_a_missing_file_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sales.csv").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UnknownName, match="Did you mean digits"):
        guess("digit")
    with pytest.raises(UnknownName, match=r"write \./folder"):
        guess("folder")
    with pytest.raises(SourceError, match=r"Did you mean sales\.csv"):
        guess("sale.csv")
    with pytest.raises(SourceError, match="no such file or folder"):
        guess("nowhere/data")


def test_what_is_no_source_is_refused_with_what_is(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds no data that is known here.*\.csv"):
        guess(str(tmp_path))
    (tmp_path / "rows.xlsx").touch()
    with pytest.raises(SourceError, match=r"end in '\.xlsx'"):
        guess(str(tmp_path / "rows.xlsx"))


def test_a_model_is_called_like_its_file() -> None:
    assert default_name("data/sales.2026.csv") == "sales"
    assert default_name("digits") == "digits"
