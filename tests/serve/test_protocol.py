"""The rest of the Open Inference Protocol over HTTP: configuration, repository, classification, what clients add."""

from __future__ import annotations

import base64
import http.client
import json
from urllib.parse import urlsplit

import pytest

from modelmill.serve.server import Service

FLOWER = {
    "inputs": [
        {"name": "length", "datatype": "FP32", "shape": [2], "data": [3, 1]},
        {"name": "width", "datatype": "FP32", "shape": [2], "data": [1, 3]},
    ]
}


@pytest.fixture
def own(registry):
    """A service that a test may change."""
    with Service(registry) as service:
        yield service


@pytest.fixture
def ask(own):
    connection = http.client.HTTPConnection(urlsplit(own.url).netloc, timeout=20)

    def call(method, path, body=None):
        connection.request(method, path, None if body is None else json.dumps(body).encode())
        response = connection.getresponse()
        content = response.read()
        return response.status, json.loads(content) if content else None

    yield call
    connection.close()


def test_a_configuration_leaves_out_the_rows_of_what_is_batched(ask):
    code, config = ask("GET", "/v2/models/pictures/config")
    assert code == 200
    assert config["max_batch_size"] > 0
    assert config["input"] == [{"name": "image", "data_type": "TYPE_FP32", "dims": [8, 8]}]
    assert {output["name"]: output["data_type"] for output in config["output"]}["label"] == "TYPE_INT64"
    assert ask("GET", "/v2/models/flowers/versions/2/config")[1]["name"] == "flowers"
    assert ask("GET", "/v2/models/nobody/config")[0] == 404


def test_an_unloaded_model_is_not_served_until_it_is_loaded_again(ask, own):
    assert ask("POST", "/v2/repository/models/flowers/unload")[0] == 200
    code, answer = ask("POST", "/v2/models/flowers/infer", FLOWER)
    assert code == 404
    assert "is unloaded" in answer["error"]
    own.server.catalogue.stamp = None
    own.server.catalogue.refresh()
    assert ask("GET", "/v2/models/flowers/ready")[0] == 404
    assert ask("POST", "/predict/flowers@2", [[1, 2]])[0] == 404
    index = ask("POST", "/v2/repository/index", {})[1]
    states = {model["name"]: (model["state"], model["reason"]) for model in index}
    assert states == {"flowers": ("UNAVAILABLE", "unloaded"), "mixed": ("READY", ""), "pictures": ("READY", "")}
    ready = ask("POST", "/v2/repository/index", {"ready": True})[1]
    assert [model["name"] for model in ready] == ["mixed", "pictures"]
    assert ask("POST", "/v2/repository/index", {"ready": None}) == (200, index)
    assert ask("POST", "/v2/repository/models/flowers/load", {})[0] == 200
    assert ask("POST", "/v2/models/flowers/infer", FLOWER)[0] == 200


@pytest.mark.parametrize(
    ("path", "body", "code", "words"),
    [
        ("models/nobody/load", {}, 404, "'nobody' is not served"),
        ("models/nobody/unload", {}, 404, "'nobody' is not served"),
        ("models/flowers@2/load", {}, 404, "'flowers@2' is not served"),
        ("models/flowers/load", {"parameters": {"config": "{}"}}, 400, "parameters.config: is not supported"),
        ("models/flowers/unload", {"parameters": {"unload_dependents": 1}}, 400, "expected true or false"),
        ("models/flowers/unload", [], 400, "expected a JSON object"),
        ("index", {"ready": "yes"}, 400, "ready: expected true or false"),
    ],
)
def test_the_repository_refuses_in_words(ask, path, body, code, words):
    got, answer = ask("POST", f"/v2/repository/{path}", body)
    assert got == code
    assert words in answer["error"]
    assert ask("GET", "/v2/models/flowers/ready")[0] == 200


def test_the_best_classes_are_given_as_text(ask):
    asked = [{"name": "probabilities", "parameters": {"classification": 2}}]
    output = ask("POST", "/v2/models/flowers/infer", {**FLOWER, "outputs": asked})[1]["outputs"][0]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    assert output["data"][:2] == ["0.982014:0:long", "0.017986:1:wide"]


def test_a_timeout_holds_for_what_is_quick_too(ask):
    code, answer = ask("POST", "/v2/models/flowers/infer", {**FLOWER, "parameters": {"timeout": 1}})
    assert (code, answer["error"].partition(":")[0]) == (504, "timeout")
    assert ask("POST", "/v2/models/flowers/infer", {**FLOWER, "parameters": {"timeout": 0}})[0] == 200


def test_what_clients_of_other_servers_add_is_let_through(ask):
    tensors = [{**tensor, "parameters": {"content_type": None}} for tensor in FLOWER["inputs"]]
    given = {"content_type": "np", "headers": {"x": "y"}, "unknown": 5, "priority": 1, "timeout": 5_000_000}
    code, answer = ask("POST", "/v2/models/flowers/infer", {"inputs": tensors, "parameters": given})
    assert code == 200
    assert answer["outputs"][0]["data"] == ["long", "wide"]


def mixed(texts, **parameters):
    """A request of which `code` is this."""
    rows = len(texts)
    others = {
        "name": ("BYTES", ["a"] * rows),
        "count": ("INT64", [1] * rows),
        "flag": ("BOOL", [True] * rows),
        "day": ("INT64", [3] * rows),
        "small": ("UINT8", [0] * 4 * rows),
        "vector": ("FP32", [0] * 3 * rows),
    }
    tails = {"small": [2, 2], "vector": [3]}
    tensors = [
        {"name": name, "datatype": datatype, "shape": [rows, *tails.get(name, [])], "data": data}
        for name, (datatype, data) in others.items()
    ]
    coded = {"name": "code", "datatype": "BYTES", "shape": [rows, 1], "data": texts, "parameters": parameters}
    return {"inputs": [*tensors, coded], "outputs": [{"name": "code_out"}]}


def test_texts_that_come_as_base64_are_decoded(ask):
    texts = ["hello", "ü", "a+b/c=", "1"]
    coded = [base64.b64encode(text.encode()).decode() for text in texts]
    code, answer = ask("POST", "/v2/models/mixed/infer", mixed(coded, content_type="base64"))
    assert (code, answer["outputs"][0]["data"]) == (200, texts)


@pytest.mark.parametrize("content_type", ["np", "str", "pd", "datetime", "BASE64", None])
def test_other_content_types_leave_texts_as_they_are(ask, content_type):
    code, answer = ask("POST", "/v2/models/mixed/infer", mixed(["aGVsbG8=", "b"], content_type=content_type))
    assert (code, answer["outputs"][0]["data"]) == (200, ["aGVsbG8=", "b"])


@pytest.mark.parametrize(
    ("text", "words"), [("hello!", "element 1 is 'hello!'"), ("ü", "base64"), ("YQ", "base64"), ("/w==", "not UTF-8")]
)
def test_what_is_not_base64_is_refused(ask, text, words):
    code, answer = ask("POST", "/v2/models/mixed/infer", mixed(["YQ==", text], content_type="base64"))
    assert code == 400
    assert answer["error"].startswith("inputs[6] (code): ")
    assert words in answer["error"]


def test_extensions_are_what_is_offered(ask):
    extensions = ask("GET", "/v2")[1]["extensions"]
    assert {"binary_tensor_data", "classification", "statistics", "model_configuration"} <= set(extensions)
    assert not any("shared_memory" in name or name == "sequence" for name in extensions)


def test_statistics_count_requests_rows_and_runs(ask):
    for _ in range(3):
        assert ask("POST", "/v2/models/flowers/infer", FLOWER)[0] == 200
    assert ask("POST", "/v2/models/flowers/infer", {"inputs": []})[0] == 400
    stats = ask("GET", "/v2/models/flowers/stats")[1]["model_stats"][0]
    assert (stats["name"], stats["version"]) == ("flowers", "1")
    assert (stats["inference_count"], stats["execution_count"]) == (6, 3)
    assert stats["inference_stats"]["success"]["count"] == 3
    assert stats["inference_stats"]["fail"]["count"] == 1
    assert stats["inference_stats"]["compute_infer"]["ns"] > 0
    assert stats["inference_stats"]["fail"]["ns"] > 0
    assert stats["memory_usage"][0]["byte_size"] > 0
    assert [(size["batch_size"], size["compute_infer"]["count"]) for size in stats["batch_stats"]] == [(2, 3)]
    assert stats["response_stats"] == {}
    assert stats["last_inference"] > 1_700_000_000_000
    names = [model["name"] for model in ask("GET", "/v2/models/stats")[1]["model_stats"]]
    assert names == ["flowers", "mixed", "pictures"]
