"""Whatever is sent, the service answers below 500, and says `error`."""

from __future__ import annotations

import copy
import http.client
import json
from urllib.parse import urlsplit

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

GOOD = {
    "id": "1",
    "parameters": {"binary_data_output": False},
    "inputs": [
        {"name": "name", "datatype": "BYTES", "shape": [1], "data": ["a"]},
        {"name": "code", "datatype": "BYTES", "shape": [1], "data": ["b"]},
        {"name": "count", "datatype": "INT64", "shape": [1], "data": [3]},
        {"name": "flag", "datatype": "BOOL", "shape": [1], "data": [True]},
        {"name": "day", "datatype": "INT64", "shape": [1], "data": [None]},
        {"name": "small", "datatype": "UINT8", "shape": [1, 2, 2], "data": [[[1, 2], [3, 4]]]},
        {"name": "vector", "datatype": "FP32", "shape": [1, 3], "data": [0.5, None, 2]},
    ],
    "outputs": [{"name": "name_out", "parameters": {"binary_data": True}}, {"name": "vector_out"}],
}
ROW = {
    "name": "a",
    "code": "b",
    "count": 3,
    "flag": True,
    "day": "2026-05-31",
    "small": [[1, 2], [3, 4]],
    "vector": [1, 2, 3],
}

odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**64), 2**64),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=6),
    st.sampled_from(["", "\x00", "FP32", "name", "NaN", 2**63, -1, 1e308, [], {}, [[]], [1, [2]], {"a": 1}]),
    st.lists(st.integers(-3, 300), max_size=5),
)


def places(value, path=()):
    """The path of every value within a document."""
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))


def changed(document, path, value, remove):
    document = copy.deepcopy(document)
    if not path:
        return value
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    if remove:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return document


@st.composite
def mutated(draw, document):
    """The document with one to three of its values replaced or removed."""
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(sorted(places(document), key=repr)))
        document = changed(document, path, draw(odd), draw(st.booleans()))
    return document


@pytest.fixture(scope="module")
def post(service):
    connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=20)

    def call(path, body, headers=()):
        connection.request("POST", path, body, dict(headers))
        response = connection.getresponse()
        content = response.read()
        assert response.status < 500, (path, body[:500], content)
        if response.status >= 400:
            assert isinstance(json.loads(content)["error"], str)
        return response.status, content

    yield call
    connection.close()


def encoded(document):
    return json.dumps(document).encode()


common = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_the_documents_that_are_mutated_are_good(post):
    assert post("/v2/models/mixed/infer", encoded(GOOD))[0] == 200
    assert post("/predict/mixed", encoded([ROW]))[0] in (200, 400)


@common
@given(document=mutated(GOOD))
def test_a_mutated_inference_request_is_never_our_fault(post, document):
    post("/v2/models/mixed/infer", encoded(document))


@common
@given(document=mutated([ROW, list(ROW.values())]))
def test_mutated_rows_are_never_our_fault(post, document):
    post("/predict/mixed", encoded(document))


@common
@given(
    start=st.integers(0, 700),
    piece=st.binary(max_size=12),
    cut=st.integers(0, 700),
    path=st.sampled_from(["/v2/models/mixed/infer", "/predict/mixed"]),
)
def test_damaged_bytes_are_never_our_fault(post, start, piece, cut, path):
    body = encoded(GOOD if path.startswith("/v2") else [ROW])
    post(path, body[:start] + piece + body[max(start, cut) :])


@common
@given(
    tail=st.binary(max_size=64),
    sizes=st.lists(st.integers(-2, 70), min_size=2, max_size=2),
    header=st.one_of(st.none(), st.integers(-2, 400).map(str), st.text("0123456789abcx.+- ", max_size=5)),
)
def test_lying_sizes_are_never_our_fault(post, tail, sizes, header):
    inputs = [
        {"name": "length", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": sizes[0]}},
        {"name": "width", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": sizes[1]}},
    ]
    head = encoded({"inputs": inputs})
    length = str(len(head)) if header is None else header
    post("/v2/models/flowers/infer", head + tail, {"Inference-Header-Content-Length": length.strip()})


@common
@given(body=st.binary(max_size=600))
def test_any_bytes_as_a_raw_request_are_never_our_fault(post, body):
    code, content = post("/v2/models/pictures/infer", body, {"Inference-Header-Content-Length": "0"})
    fits = len(body) > 0 and len(body) % 256 == 0 and not np.isnan(np.frombuffer(body, "<f4")).any()
    assert (code == 200) == fits, content


@common
@given(path=st.text(max_size=30), method=st.sampled_from(["GET", "POST", "PUT", "OPTIONS", "HEAD"]))
def test_any_path_is_never_our_fault(service, path, method):
    from urllib.parse import quote

    connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=20)
    for start in ("/", "/v2/models/", "/predict/", "/api/models/"):
        connection.request(method, start + quote(path, safe="/@%?"))
        response = connection.getresponse()
        response.read()
        assert response.status < 500
    connection.close()
