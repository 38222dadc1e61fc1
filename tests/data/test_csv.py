from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from modelmill.data.read import read
from modelmill.dataset import Dataset
from modelmill.errors import ContentError, OutOfBounds, SourceError, UnknownName, UsageError
from modelmill.signature import NO_DATE, Field


def write(folder: Path, text: str | bytes, name: str = "rows.csv") -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def csv(folder: Path, text: str | bytes, **settings: object) -> Dataset:
    return read({"method": "csv", "path": write(folder, text), **settings})


SMALL = """age,city,since,paid,score,target
1,Rome,2026-01-31,true,0.5,a
2,,2026-02-01T12:00:00Z,false,,b
3,Bonn,,true,2,a
"""


def test_types_are_inferred_from_the_text(tmp_path: Path) -> None:
    data = csv(tmp_path, SMALL)
    assert data.fields == (
        Field("age", "INT64"),
        Field("city", "BYTES", kind="category", nullable=True),
        Field("since", "INT64", kind="date", nullable=True),
        Field("paid", "BOOL", kind="boolean"),
        Field("score", "FP32", nullable=True),
    )
    assert data.columns["since"].tolist() == [1769817600000, 1769947200000, NO_DATE]
    assert data.columns["city"].tolist() == ["Rome", "", "Bonn"]
    assert np.isnan(data.columns["score"][1])
    assert data.target.tolist() == ["a", "b", "a"]
    assert all(data.columns[field.name].dtype == field.dtype for field in data.fields)


def test_whole_numbers_with_gaps_are_floats_and_booleans_with_gaps_too(tmp_path: Path) -> None:
    data = csv(tmp_path, "n,b,y\n1,true,0\n,,1\n3,false,1\n")
    assert data.fields == (Field("n", "FP32", nullable=True), Field("b", "FP32", kind="boolean", nullable=True))
    assert data.target.dtype == np.int64


def test_types_can_be_stated(tmp_path: Path) -> None:
    data = csv(tmp_path, "code,flag,y\n007,yes,1\n012,no,0\n", types={"code": "category", "flag": "boolean"})
    assert data.columns["code"].tolist() == ["007", "012"]
    assert data.columns["flag"].tolist() == [True, False]


def test_the_target_is_found_by_name_else_it_is_the_last_column_and_both_are_said(tmp_path: Path) -> None:
    named = csv(tmp_path, "Class,a\nx,1\ny,2\n")
    last = csv(tmp_path, "a,b\n1,x\n2,y\n")
    assert (named.target_name, last.target_name) == ("Class", "b")
    assert "by its name" in named.findings[0].message
    assert "the last column" in last.findings[0].message


def test_labels_that_look_like_booleans_keep_their_text(tmp_path: Path) -> None:
    assert csv(tmp_path, "a,y\n1,True\n2,False\n").target.tolist() == ["True", "False"]


def test_whole_floats_are_labels_and_fractions_are_values(tmp_path: Path) -> None:
    assert csv(tmp_path, "a,y\n1,1.0\n2,0.0\n").target.dtype == np.int64
    assert csv(tmp_path, "a,y\n1,1.5\n2,0.0\n").target.dtype == np.float32


def test_a_file_with_quotes_newlines_and_windows_line_ends_is_read(tmp_path: Path) -> None:
    data = csv(tmp_path, 'note,y\r\n"a, b",1\r\n"two\r\nlines",0\r\n"say ""hi""",1\r\n')
    assert data.columns["note"].tolist() == ["a, b", "two\r\nlines", 'say "hi"']


def test_a_byte_order_mark_and_semicolons_are_understood(tmp_path: Path) -> None:
    data = csv(tmp_path, b"\xef\xbb\xbfa;y\n1,5;x\n2,5;z\n", decimal=",")
    assert data.columns["a"].tolist() == [1.5, 2.5]


def test_a_compressed_file_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, gzip.compress(b"a,y\n1,x\n2,z\n"), "rows.csv.gz")
    assert read({"method": "csv", "path": path}).rows == 2


def test_another_encoding_can_be_stated(tmp_path: Path) -> None:
    data = csv(tmp_path, "città,y\nForlì,1\nRoma,0\n".encode("latin-1"), encoding="latin-1")
    assert data.columns["città"].tolist() == ["Forlì", "Roma"]


def test_names_that_are_empty_or_repeated_get_names_of_their_own(tmp_path: Path) -> None:
    data = csv(tmp_path, "a,,a,größe,y\n1,2,3,4,x\n5,6,7,8,z\n")
    assert [field.name for field in data.fields] == ["a", "column_2", "a_2", "größe"]
    assert [finding.check for finding in data.findings] == ["names", "names", "target"]


def test_a_column_that_is_called_like_an_output_is_renamed(tmp_path: Path) -> None:
    data = csv(tmp_path, "value,label,y\n1,2,x\n3,4,z\n", target="y")
    assert [field.name for field in data.fields] == ["value_in", "label_in"]
    assert "an output has this name" in data.findings[0].message


def test_a_header_of_numbers_is_doubted(tmp_path: Path) -> None:
    data = csv(tmp_path, "5.1,3.5,0\n4.9,3.0,1\n4.7,3.2,0\n")
    assert any("header = false" in finding.hint for finding in data.findings)
    assert csv(tmp_path, "5.1,3.5,0\n4.9,3.0,1\n", header=False).rows == 2


def test_parts_in_a_folder_make_one_table(tmp_path: Path) -> None:
    write(tmp_path, "a,y\n1,x\n2,z\n", "part-1.csv")
    write(tmp_path, "a,y\n3.5,x\nhigh,z\n", "part-2.csv")
    data = read({"method": "csv", "path": str(tmp_path)})
    assert data.columns["a"].tolist() == ["1", "2", "3.5", "high"]


def test_parts_may_differ_in_whole_numbers_and_in_the_form_of_dates(tmp_path: Path) -> None:
    write(tmp_path, "a,b,y\n1,2026-01-01,0\n", "part-1.csv")
    write(tmp_path, "a,b,y\n3.5,2026-01-02T12:00:00Z,1\n", "part-2.csv")
    data = read({"method": "csv", "path": str(tmp_path)})
    assert data.fields == (Field("a", "FP32"), Field("b", "INT64", kind="date"))


def test_times_of_day_are_text_as_it_is_written(tmp_path: Path) -> None:
    assert csv(tmp_path, "at,y\n09:30,0\n12:15,1\n").columns["at"].tolist() == ["09:30", "12:15"]


def test_text_of_the_test_file_stays_as_it_is_written(tmp_path: Path) -> None:
    test = write(tmp_path, "code,y\n07,0\n", "test.csv")
    assert csv(tmp_path, "code,y\nA1,0\n07,1\n", test=test).test.columns["code"].tolist() == ["07"]


def test_parts_with_another_header_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a,y\n1,x\n", "part-1.csv")
    write(tmp_path, "b,y\n1,x\n", "part-2.csv")
    with pytest.raises(ContentError, match=r"another header than part-1\.csv"):
        read({"method": "csv", "path": str(tmp_path)})


def test_a_numeric_table_wider_than_256_columns_is_one_tensor(tmp_path: Path) -> None:
    names = [f"p{i}" for i in range(257)]
    rows = [",".join(map(str, [*range(i, i + 257), i % 2])) for i in range(4)]
    data = csv(tmp_path, "\n".join([",".join([*names, "y"]), *rows]) + "\n")
    assert data.fields == (Field("x", "FP32", (-1, 257), "array"),)
    assert data.columns["x"][3, 256] == 259


def test_roles_leave_the_features_and_time_stays(tmp_path: Path) -> None:
    text = "who,when,w,a,y\nann,2026-01-01,1,1,x\nbob,2026-01-02,0.5,2,z\n"
    data = csv(tmp_path, text, group="who", time="when", weight="w")
    assert [field.name for field in data.fields] == ["when", "a"]
    assert data.groups.tolist() == ["ann", "bob"]
    assert data.weights.tolist() == [1.0, 0.5]
    assert np.diff(data.times).tolist() == [86_400_000]


def test_a_stated_test_set_gets_the_same_fields_and_its_gaps_count(tmp_path: Path) -> None:
    test = write(tmp_path, "y,b,a\nx,7,\nz,B,2\n", "test.csv")
    data = csv(tmp_path, "a,b,y\n1,A,x\n2,B,z\n", test=test)
    assert data.fields == (Field("a", "FP32", nullable=True), Field("b", "BYTES", kind="category"))
    assert data.test.columns["b"].tolist() == ["7", "B"]
    assert data.test.target.tolist() == ["x", "z"]


def test_a_column_without_any_value_is_left_out_with_a_warning(tmp_path: Path) -> None:
    data = csv(tmp_path, "a,b,y\n1,,x\n2,NaN,z\n")
    assert [field.name for field in data.fields] == ["a"]
    found = next(finding for finding in data.findings if finding.check == "missing")
    assert (found.severity, found.where) == ("warning", "rows.csv column b")


def test_rows_without_a_target_are_left_out_with_a_warning(tmp_path: Path) -> None:
    data = csv(tmp_path, "a,y\n1,x\n2,\n3,z\n")
    assert data.columns["a"].tolist() == [1, 3]
    assert data.findings[-1].figures == {"rows": 1}


def test_a_column_that_was_probably_meant_as_numbers_is_pointed_out_with_its_line(tmp_path: Path) -> None:
    rows = [f"{i},{i % 2}" for i in range(20)] + ["1O,1"]
    data = csv(tmp_path, "a,y\n" + "\n".join(rows) + "\n")
    found = next(finding for finding in data.findings if finding.check == "types")
    assert found.where.endswith("line 22")
    assert "'1O'" in found.message


def test_infinite_values_count_as_missing_and_are_said(tmp_path: Path) -> None:
    data = csv(tmp_path, "a,y\ninf,x\n1e300,z\n2.5,x\n")
    assert np.isnan(data.columns["a"]).tolist() == [True, True, False]
    assert any(finding.figures == {"values": 2} for finding in data.findings)


def test_a_ragged_row_is_refused_with_its_line(tmp_path: Path) -> None:
    text = 'a,b,y\n"1\n2",3,x\n\n4,5,x\n6,7\n'
    with pytest.raises(ContentError, match=r"rows\.csv line 6: the row has 2 values; expected 3"):
        csv(tmp_path, text)


def test_text_where_numbers_were_stated_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match=r"line 5: the value of a is 'many'; expected a number"):
        csv(tmp_path, 'a,b,y\n1,"x\ny",0\n\nmany,z,1\n', types={"a": "number"})


def test_a_quotation_mark_that_is_never_closed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match=r"rows\.csv line"):
        csv(tmp_path, 'a,b,y\n1,2,x\n3,"4,z\n5,6,x\n')


def test_wrong_encoding_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"line 3: is not utf-8.*latin-1"):
        csv(tmp_path, "a,y\nRoma,1\nForlì,0\n".encode("latin-1"))
    with pytest.raises(SourceError, match="UTF-16"):
        csv(tmp_path, "a,y\n1,2\n".encode("utf-16"))
    with pytest.raises(OutOfBounds, match="no encoding named"):
        csv(tmp_path, "a,y\n1,2\n", encoding="klingon")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SourceError, match="is empty"):
        csv(tmp_path, content)


def test_a_header_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="a header and no rows"):
        csv(tmp_path, "a,b,y\n")
    with pytest.raises(ContentError, match="a header and no rows"):
        csv(tmp_path, "a,b,y")


def test_a_broken_gzip_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, gzip.compress(b"a,y\n" + b"1,x\n" * 5000)[:-20], "rows.csv.gz")
    with pytest.raises(SourceError, match="cannot be read"):
        read({"method": "csv", "path": path})


def test_a_target_that_is_not_there_is_a_usage_error_with_the_closest_names(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean price"):
        csv(tmp_path, "a,price\n1,2\n", target="prise")
    with pytest.raises(UnknownName, match="weight"):
        csv(tmp_path, "a,y\n1,2\n", weight="w")
    with pytest.raises(UnknownName, match="types"):
        csv(tmp_path, "a,y\n1,2\n", types={"b": "number"})
    with pytest.raises(OutOfBounds, match="expected one of number"):
        csv(tmp_path, "a,y\n1,2\n", types={"a": "float"})
    with pytest.raises(UsageError, match="is the target as well"):
        csv(tmp_path, "a,y\n1,2\n", group="y", target="y")


def test_a_target_without_any_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="every value of the target 'y' is missing"):
        csv(tmp_path, "a,y\n1,\n2,NA\n")


def test_a_date_as_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="date values cannot be predicted"):
        csv(tmp_path, "a,y\n1,2026-01-01\n2,2026-01-02\n")


def test_a_table_with_only_a_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="no column to predict 'y' from"):
        csv(tmp_path, "y\n1\n2\n")


def test_a_test_file_without_a_column_is_refused(tmp_path: Path) -> None:
    test = write(tmp_path, "a,y\n1,x\n", "test.csv")
    with pytest.raises(UnknownName, match="'b' is missing from the test file"):
        csv(tmp_path, "a,b,y\n1,2,x\n2,3,z\n", test=test)


def test_bad_weights_and_missing_times_are_refused_with_their_line(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="line 3: the weight w is -1"):
        csv(tmp_path, "a,w,y\n1,1,x\n2,-1,z\n", weight="w")
    with pytest.raises(ContentError, match="line 3: the time t is missing"):
        csv(tmp_path, "a,t,y\n1,2026-01-01,x\n2,,z\n", time="t")


def test_equal_files_have_equal_digests(tmp_path: Path) -> None:
    assert csv(tmp_path, SMALL).digest == csv(tmp_path, SMALL).digest
    assert csv(tmp_path, SMALL).digest != csv(tmp_path, SMALL.replace("Bonn", "Köln")).digest
