"""The service over real sockets: faces, codes and words."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.request
from urllib.parse import urlsplit

import numpy as np
import pytest

from modelmill.client import Client
from modelmill.errors import RequestError
from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.loaded import Loaded
from modelmill.serve.engine.engine import DEFAULT, Engine
from modelmill.serve.plane import Plane, State
from modelmill.serve.server import Service
from modelmill.serve.signals.signals import Signals, Telling
from modelmill.serve.web import openapi
from modelmill.serve.web.app import App
from modelmill.signature import Field, Signature


class Answer:
    def __init__(self, response):
        self.code = response.status
        self.headers = {key.lower(): value for key, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)


@pytest.fixture
def ask(service):
    connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=20)

    def call(method, path, body=None, headers=None):
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection.request(method, path, body, headers or {})
        return Answer(connection.getresponse())

    yield call
    connection.close()


def raw(service, data, end=False):
    """What comes back for bytes that no client library would send."""
    host, port = urlsplit(service.url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(data)
        if end:
            connection.shutdown(socket.SHUT_WR)
        found = b""
        while b"\r\n\r\n" not in found or not found.split(b"\r\n\r\n", 1)[1]:
            piece = connection.recv(65536)
            if not piece:
                break
            found += piece
    return found


FLOWER = {
    "inputs": [
        {"name": "length", "datatype": "FP32", "shape": [2], "data": [3, 1]},
        {"name": "width", "datatype": "FP32", "shape": [2], "data": [1, 3]},
    ]
}


def test_rows_are_answered_as_objects_and_as_lists(ask):
    answer = ask("POST", "/predict/flowers", [{"length": 3, "width": 1}, [1, 3]])
    assert answer.code == 200
    assert (answer.json["model"], answer.json["version"]) == ("flowers", 1)
    first, second = answer.json["predictions"]
    assert (first["label"], second["label"]) == ("long", "wide")
    assert first["probabilities"]["long"] == pytest.approx(1 / (1 + np.exp(-4)), abs=1e-6)


def test_rows_are_answered_with_the_numbers_that_infer_writes(ask):
    rows = ask("POST", "/predict/flowers", [[3, 1], [1, 3]]).json["predictions"]
    tensors = {
        tensor["name"]: tensor["data"] for tensor in ask("POST", "/v2/models/flowers/infer", FLOWER).json["outputs"]
    }
    assert [p for row in rows for p in row["probabilities"].values()] == tensors["probabilities"]
    vector = {"name": "", "code": "c", "count": 1, "flag": True, "day": None, "small": [[1, 2], [3, 4]]}
    (echo,) = ask("POST", "/predict/mixed", [{**vector, "vector": [0.1, None, 1e-7]}]).json["predictions"]
    assert echo["vector_out"] == [0.1, None, 1e-7]


@pytest.fixture
def steady(empty_registry):
    """Publishes a model that takes eight rows at a time, and gives the numbers of each and their mean over the call."""

    def call(series=False, example=()):
        writer = Writer()
        writer.rename(writer.op("Neg", ["x"]), "less")
        axes = writer.constant(np.array([0], np.int64))
        writer.rename(writer.op("ReduceMean", ["x", axes], {"keepdims": 0}), "mean")
        fields = (Field("x", "FP32", (8, 2), "array"),)
        outputs = (Field("less", "FP32", (8, 2), "array"), Field("mean", "FP32", (2,), "array", axis=None))
        signature = Signature("compute", fields, outputs, example=example, series=series)
        onnx = to_onnx(writer.fragment(), fields, outputs)
        return empty_registry.publish("steady", {"model.onnx": onnx}, signature, promote=True)

    return call


@pytest.mark.parametrize("example", [(), ([1.0, 2.0],)])
def test_rows_of_any_number_are_answered_by_a_model_of_a_fixed_one(empty_registry, steady, example):
    version = steady(example=example)
    local = Loaded(version, empty_registry.file(version, "model.onnx"))
    with Service(empty_registry) as service, Client(service.url) as client:
        for count in (1, 8, 19):
            rows = [[[n, 0.5]] for n in range(count)]
            found = client.predict("steady", rows)
            assert found["less"].tolist() == [[-n, -0.5] for n in range(count)]
            last = np.resize(np.pad(np.arange(count), (0, -count % 8), "edge"), (-(-count // 8), 8)).mean(axis=1)
            assert found["mean"][:, 0].tolist() == [last[n // 8] for n in range(count)]
            for name, values in local.predict(rows).items():
                np.testing.assert_array_equal(found[name], values)
        with pytest.raises(RequestError, match=r"expected \[8, 2\], came \[3, 2\]"):
            client.infer("steady", {"x": np.zeros((3, 2))})


def test_rows_of_a_series_are_not_cut(empty_registry, steady):
    version = steady(series=True)
    local = Loaded(version, empty_registry.file(version, "model.onnx"))
    with Service(empty_registry) as service, Client(service.url) as client:
        assert len(client.predict("steady", [[[1, 2]]] * 8)["less"]) == 8
        for predict in (lambda rows: client.predict("steady", rows), local.predict):
            with pytest.raises(RequestError, match="came 9, and the model takes 8 at a time, which are a series"):
                predict([[[1, 2]]] * 9)


def test_versions_and_aliases_are_reached_by_name(ask):
    rows = [[3, 1]]
    assert ask("POST", "/predict/flowers@2", rows).json["predictions"][0]["label"] == "wide"
    assert ask("POST", "/predict/flowers%402", rows).json["version"] == 2
    assert ask("POST", "/predict/flowers@live", rows).json["version"] == 1
    assert ask("POST", "/v2/models/flowers/versions/2/infer", FLOWER).json["model_version"] == "2"


def test_an_object_is_refused_with_a_way_out(ask):
    answer = ask("POST", "/predict/flowers", {"length": 3, "width": 1})
    assert answer.code == 400
    assert "brackets" in answer.json["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"[[]]",
        b"[[1]]",
        b"[[1, 2, 3]]",
        b'[{"length": 1}]',
        b'[{"length": 1, "width": 2, "depth": 3}]',
        b'[{"length": "a", "width": 2}]',
        b'[{"length": 1, "width": null}]',
        b"[[NaN, 1]]",
        b"[[1, 2]",
        b"[" * 10_000,
        b"3",
        b"null",
        b"\xff",
        b"[1, 2]",
        b"[[1e400, 1]]",
        b"[[true, 1]]",
    ],
)
def test_rows_that_cannot_be_taken_are_bad_requests(ask, body):
    answer = ask("POST", "/predict/flowers", body)
    assert answer.code == 400
    assert isinstance(answer.json["error"], str)


def test_json_inference_answers_what_was_asked(ask):
    answer = ask("POST", "/v2/models/flowers/infer", {**FLOWER, "id": "a1", "outputs": [{"name": "label"}]})
    assert answer.code == 200
    assert answer.json == {
        "model_name": "flowers",
        "model_version": "1",
        "id": "a1",
        "outputs": [{"name": "label", "datatype": "BYTES", "shape": [2], "data": ["long", "wide"]}],
    }


def test_every_type_goes_through_binary_and_comes_back(ask):
    values = {
        "name": (["ü", ""], "BYTES", [2]),
        "code": (["a\x00b", "c"], "BYTES", [2]),
        "count": ([2**40, -1], "INT64", [2]),
        "flag": ([True, False], "BOOL", [2]),
        "day": ([0, -1], "INT64", [2]),
        "small": (list(range(8)), "UINT8", [2, 2, 2]),
        "vector": ([0.5, 1, 2, 3, 4, 5], "FP32", [2, 3]),
    }
    inputs = [{"name": n, "datatype": d, "shape": s, "data": v} for n, (v, d, s) in values.items()]
    outputs = {o["name"]: o["data"] for o in ask("POST", "/v2/models/mixed/infer", {"inputs": inputs}).json["outputs"]}
    for name, (data, _, _) in values.items():
        assert outputs[f"{name}_out"] == data


def test_a_raw_request_is_answered_in_binary(ask):
    pixels = np.zeros((2, 8, 8), np.float32)
    pixels[0, :4] = pixels[1, 4:] = 16
    answer = ask("POST", "/v2/models/pictures/infer", pixels.tobytes(), {"Inference-Header-Content-Length": "0"})
    assert answer.code == 200
    head = int(answer.headers["inference-header-content-length"])
    label = json.loads(answer.body[:head])["outputs"][0]
    assert label["parameters"] == {"binary_data_size": 16}
    assert np.frombuffer(answer.body[head : head + 16], np.int64).tolist() == [0, 1]


def test_health_and_metadata_say_what_is_there(ask):
    assert ask("GET", "/v2/health/live").json["live"] is True
    assert ask("GET", "/v2/health/ready").json["ready"] is True
    assert "binary_tensor_data" in ask("GET", "/v2/").json["extensions"]
    assert ask("GET", "/v2/models/flowers").json["versions"] == ["1", "2"]
    assert ask("GET", "/v2/models/flowers/versions/2/ready").json == {"name": "flowers", "ready": True}
    index = ask("POST", "/v2/repository/index", {}).json
    assert {"name": "flowers", "version": "1", "state": "READY", "reason": ""} in index


def test_what_is_not_there_is_not_found(ask):
    for path in ("/v2/models/flower", "/v2/models/flowers/versions/9", "/v2/models/flowers/ready/x", "/nothing"):
        assert ask("GET", path).code == 404, path
    answer = ask("POST", "/predict/flower", [[1, 2]])
    assert answer.code == 404
    assert "Did you mean flowers?" in answer.json["error"]
    assert "Served: flowers" in ask("POST", "/predict/f_oars", [[1, 2]]).json["error"]
    assert ask("POST", "/predict/flowers@nobody", [[1, 2]]).code == 404
    assert ask("POST", "/predict/..%2f..%2fetc", [[1, 2]]).code == 404
    assert ask("POST", "/predict/" + "a" * 4096, [[1, 2]]).code == 404


def test_a_version_that_is_no_number_is_a_bad_request(ask):
    assert ask("GET", "/v2/models/flowers/versions/live").code == 400
    assert ask("GET", "/v2/models/flowers/versions/-1").code == 400


def test_a_get_where_a_post_belongs_says_so(ask):
    answer = ask("GET", "/v2/models/flowers/infer")
    assert (answer.code, answer.headers["allow"]) == (405, "POST")
    assert ask("DELETE", "/predict/flowers").code == 405
    assert ask("POST", "/metrics", b"").headers["allow"] == "GET"


def test_bytes_without_the_header_that_says_how_many_are_json_are_told_of_it(ask):
    """Short ones and long ones; who sends JSON is not told of it."""
    path, header = "/v2/models/pictures/infer", "Inference-Header-Content-Length"
    for body in (np.full(64, 0.1, np.float32).tobytes(), json.dumps(FLOWER).encode() + bytes(8), b"\xff" * 100_000):
        told = ask("POST", path, body, {"Content-Type": "Application/Octet-Stream"})
        assert (told.code, header in told.json["error"]) == (400, True)
        told = ask("POST", path, body, {"Content-Type": "application/json"})
        assert (told.code, header in told.json["error"]) == (400, False)
    assert ask("POST", "/v2/models/flowers/infer", FLOWER, {"Content-Type": "application/octet-stream"}).code == 200


def test_a_body_declared_too_large_is_refused_before_it_comes(service):
    answer = raw(service, b"POST /predict/flowers HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n[")
    assert answer.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: -5",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Content-Length: x",
        b"X: " + b"a" * 100_000,
        b"Inference-Header-Content-Length: 5\r\nInference-Header-Content-Length: 6\r\nContent-Length: 2",
    ],
)
def test_lying_headers_are_bad_requests(service, lines):
    answer = raw(service, b"POST /v2/models/flowers/infer HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n\r\n{}")
    assert answer.startswith(b"HTTP/1.1 400"), answer[:200]
    assert b'{"error":' in answer


def test_what_is_no_http_is_a_bad_request(service):
    assert raw(service, b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n").split()[1] in (b"400", b"404")
    assert raw(service, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_a_body_that_ends_early_leaves_the_service_well(service, ask):
    raw(service, b"POST /predict/flowers HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n[[1,", end=True)
    assert ask("POST", "/predict/flowers", [[1, 2]]).code == 200


def test_figures_count_requests_by_model_and_code(ask):
    ask("POST", "/predict/flowers", [[1, 2]])
    ask("POST", "/predict/flowers", b"[")
    ask("POST", "/predict/nobody", [[1]])
    text = ask("GET", "/metrics").body.decode()
    assert 'modelmill_requests_total{model="flowers",version="1",face="predict",code="200"}' in text
    assert 'modelmill_requests_total{model="flowers",version="1",face="predict",code="400"}' in text
    assert 'modelmill_requests_total{model="",version="",face="predict",code="404"}' in text
    assert "nobody" not in text
    assert 'modelmill_batch_rows_bucket{model="flowers",version="1",le="1"}' in text
    assert "modelmill_models_loaded" in text
    assert "modelmill_queue_requests 0" in text


def test_the_registry_is_shown_under_api(ask):
    names = [model["name"] for model in ask("GET", "/api/models").json["models"]]
    assert names == ["flowers", "mixed", "pictures"]
    model = ask("GET", "/api/models/flowers").json
    assert model["example"] == [2.0, 1.0]
    assert [other["number"] for other in model["history"]] == [1, 2]
    page = ask("GET", "/api/models/flowers/report")
    assert b"report of flowers" in page.body
    assert "sandbox" in page.headers["content-security-policy"]
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_every_path_is_in_the_openapi_document(ask, registry):
    document = ask("GET", "/openapi.json").json
    assert document["openapi"] == "3.1.0"
    app = App(Plane(None, Engine(DEFAULT), State(), None), Signals(Telling()), 1)
    for path, handlers in app.table().items():
        if path in ("docs.js", "docs.css"):
            continue
        assert {method.lower() for method in handlers} == set(document["paths"][f"/{path}"]), path
    assert document["paths"]["/predict/flowers"]["post"]["requestBody"]["content"]["application/json"]["example"] == [
        {"length": 2.0, "width": 1.0}
    ]
    assert set(openapi.REASONS) >= set(openapi.POSTED)


def test_an_example_has_the_shortest_numbers_that_stand_for_it(empty_registry):
    fields = (Field("x", "FP32", (-1, 2)), Field("y", "FP64"), Field("z", "FP32", nullable=True))
    outputs = tuple(Field(f"{field.name}_out", field.datatype, field.shape) for field in fields)
    writer = Writer()
    for field, output in zip(fields, outputs, strict=True):
        writer.rename(field.name, output.name)
    example = ([5.099999904632568, 0.10000000149], 0.10000000149, None)
    made = to_onnx(writer.fragment(), fields, outputs)
    empty_registry.publish("short", {"model.onnx": made}, Signature("compute", fields, outputs, example=example))
    with Service(empty_registry) as service:
        found = []
        for path in ("/api/models/short", "/openapi.json"):
            with urllib.request.urlopen(service.url + path, timeout=20) as response:
                found.append(json.load(response))
    model, document = found
    assert model["example"] == [[5.1, 0.1], 0.10000000149, None]
    body = document["paths"]["/predict/short"]["post"]["requestBody"]["content"]["application/json"]
    assert body["example"] == [{"x": [5.1, 0.1], "y": 0.10000000149, "z": None}]


def test_the_docs_page_stands_alone(ask):
    page = ask("GET", "/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    for part in ("/docs", "/docs.js", "/docs.css"):
        body = ask("GET", part).body.decode()
        assert "http://" not in body.replace("http://www.w3.org", "")
        assert "https://" not in body


def test_head_is_answered_like_get_without_a_body(ask):
    answer = ask("HEAD", "/v2/health/live")
    assert (answer.code, answer.body) == (200, b"")


def test_a_place_that_a_graph_does_not_have_is_the_requests_fault(empty_registry):
    writer = Writer()
    writer.rename(writer.op("Gather", [writer.constant(np.float32([0.5, 1.5])), "place"]), "y")
    fields, outputs = (Field("place", "INT64"),), (Field("y", "FP32"),)
    made = to_onnx(writer.fragment(), fields, outputs)
    empty_registry.publish("table", {"model.onnx": made}, Signature("compute", fields, outputs))
    with Service(empty_registry) as service:
        connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=60)
        for place, code in ((1, 200), (7, 400), (0, 200)):
            connection.request("POST", "/predict/table", json.dumps([{"place": place}]))
            response = connection.getresponse()
            said = json.loads(response.read())
            assert response.status == code
            assert code == 200 or "out of data bounds" in said["error"]
        connection.close()
