"""Rows of any number as calls of a graph that takes a fixed one."""

import numpy as np
import pytest

from modelmill.errors import RequestError
from modelmill.runtime.pieces import joined, pieces
from modelmill.runtime.rows import to_columns
from modelmill.signature import Field, Signature

FIXED = Signature(
    "compute",
    (
        Field("x", "FP32", (2, 3), "array"),
        Field("state", "FP32", (1, 2, 2), "array", axis=1),
        Field("rate", "INT64", (), axis=None),
    ),
    (Field("y", "FP32", (2, 3)), Field("next", "FP32", (1, 2, 2), axis=1), Field("once", "INT64", (), axis=None)),
)


def rows(count):
    return [{"x": [n, 0, 0], "state": [[n, -n]], "rate": 8} for n in range(count)]


@pytest.mark.parametrize(("count", "counts"), [(1, [1]), (2, [2]), (5, [2, 2, 1])])
def test_the_last_call_is_filled_up_with_its_last_row_whose_surplus_answers_are_dropped(count, counts):
    calls = list(pieces(to_columns(rows(count), FIXED), FIXED, count))
    assert [len(piece["x"]) for piece, _ in calls] == [2] * len(calls)
    assert [piece["state"].shape for piece, _ in calls] == [(1, 2, 2)] * len(calls)
    assert [counted for _, counted in calls] == counts
    last, counted = calls[-1]
    assert last["x"][:, 0].tolist() == [count - counted, count - 1]
    parts = [({"y": piece["x"], "next": piece["state"], "once": piece["rate"]}, n) for piece, n in calls]
    found = joined(parts, FIXED)
    assert found["y"][:, 0].tolist() == list(range(count))
    assert found["next"].tolist() == [[[n, -n]] for n in range(count)]
    assert found["once"].tolist() == [8] * count


def test_any_number_is_one_call_where_none_is_fixed():
    free = Signature("compute", (Field("x", "FP32", (-1, 3), "array"),), (Field("y", "FP32", (-1, 3)),))
    columns = {"x": np.zeros((5, 3), np.float32)}
    ((piece, count),) = pieces(columns, free, 5)
    assert (piece is columns, count) == (True, 5)


def test_rows_that_belong_together_are_not_cut():
    series = Signature("compute", (Field("x", "FP32", (2,)),), (Field("y", "FP32", (2,)),), series=True)
    columns = {"x": np.zeros(3, np.float32)}
    with pytest.raises(RequestError, match="rows: came 3, and the model takes 2 at a time, which are a series"):
        pieces(columns, series, 3)
    assert len(list(pieces({"x": columns["x"][:2]}, series, 2))) == 1
