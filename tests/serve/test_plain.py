"""Tensors that are plainly right are read quickly: to the same values as by the checks with words, or not at all."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmill.errors import RequestError
from modelmill.serve.inputs import FEW, Input
from modelmill.serve.request import Expected
from modelmill.serve.web.wire import read
from modelmill.signature import Field, Signature

DATATYPES = ("FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
ELEMENTS = st.one_of(
    st.integers(-(2**65), 2**65),
    st.integers(0, 200),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([True, None, "1", [1], 3.4e38, 3.5e38, -1e300, 0, 127, 255]),
)


def slowly(tensor, field):
    """As the checks with words read it: parameters, even none, keep a tensor from the quick way."""
    expected = Expected(Signature("echo", (field,), (field,)))
    body = json.dumps({"inputs": [{"name": "x", "parameters": {}, **tensor}]}).encode()
    return read(body, None, expected).columns["x"]


@given(st.sampled_from(DATATYPES), st.lists(ELEMENTS, min_size=1, max_size=6), st.sampled_from([1, FEW]))
def test_the_quick_way_agrees_with_the_slow_one(datatype, data, times):
    field = Field("x", datatype)
    data = data * times
    tensor = {"name": "x", "datatype": datatype, "shape": [len(data)], "data": data}
    quick = Input(field).plain(tensor)
    if quick is None:
        return
    slow = slowly(tensor, field)
    assert quick.dtype == slow.dtype
    np.testing.assert_array_equal(quick, slow)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_plain_values_go_the_quick_way(datatype):
    tensor = {"name": "x", "datatype": datatype, "shape": [3], "data": [0, 1, 100]}
    quick = Input(Field("x", datatype)).plain(tensor)
    assert quick.tolist() == [0, 1, 100]
    assert str(quick.dtype) == Field("x", datatype).dtype


@pytest.mark.parametrize("others", [0, 2 * FEW])
@pytest.mark.parametrize(
    ("datatype", "data"),
    [("FP32", [1e39]), ("FP32", [True]), ("INT8", [128]), ("UINT8", [-1]), ("INT64", [1.0]), ("INT64", ["1"])],
)
def test_what_does_not_fit_is_left_to_the_words(datatype, data, others):
    tensor = {"name": "x", "datatype": datatype, "shape": [1 + others], "data": [0] * others + data}
    assert Input(Field("x", datatype)).plain(tensor) is None
    with pytest.raises(RequestError):
        slowly(tensor, Field("x", datatype))


@pytest.mark.parametrize("shape", [[2, 2], [0], [True], [4.0], "4", [-1], [3]])
def test_a_shape_that_is_none_is_left_to_the_words(shape):
    assert Input(Field("x", "FP32")).plain({"datatype": "FP32", "shape": shape, "data": [1, 2, 3, 4]}) is None


def test_dates_and_nested_lists_are_left_to_the_words():
    tensor = {"datatype": "INT64", "shape": [1], "data": [-(2**63)]}
    assert Input(Field("x", "INT64", kind="date")).plain(tensor) is None
    assert Input(Field("x", "FP32", (-1, 1))).plain({"datatype": "FP32", "shape": [1, 1], "data": [[1]]}) is None
