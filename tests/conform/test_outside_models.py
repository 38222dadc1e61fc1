"""The models that Triton's examples ask for: taken in as they are, and told as its clients expect."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest

from modelmill.api import import_model
from modelmill.registry.registry import Registry
from modelmill.serve.server import Service
from modelmill.store.home import Home

BENCH = Path(__file__).parents[2] / "bench" / "conform" / "models.py"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    spec = importlib.util.spec_from_file_location("conform_models", BENCH)
    models = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(models)
    place = Home(tmp_path_factory.mktemp("home"))
    for path in models.make(tmp_path_factory.mktemp("models"), models.examples()):
        import_model(path, place=place)
    with Service(Registry(place.database, place.blobs)) as service:
        yield service


def asked(service, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(
            Request(f"{service.url}/{path}", data, {"content-type": "application/json"}), timeout=60
        ) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


def pair(datatype, first, second):
    both = (("INPUT0", first), ("INPUT1", second))
    return {"inputs": [{"name": name, "shape": [1, 16], "datatype": datatype, "data": data} for name, data in both]}


@pytest.mark.parametrize(
    ("model", "datatype"), [("simple", "INT32"), ("simple_int8", "INT8"), ("simple_string", "BYTES")]
)
def test_metadata_have_names_types_and_shapes_of_the_file(service, model, datatype):
    _, found = asked(service, f"v2/models/{model}")
    tensor = {"datatype": datatype, "shape": [-1, 16]}
    assert found["inputs"] == [{"name": "INPUT0", **tensor}, {"name": "INPUT1", **tensor}]
    assert found["outputs"] == [{"name": "OUTPUT0", **tensor}, {"name": "OUTPUT1", **tensor}]
    assert found["platform"] == "onnxruntime_onnx"


def test_sums_and_differences_come_back(service):
    first, second = np.arange(16), np.ones(16, int)
    _, found = asked(service, "v2/models/simple/infer", pair("INT32", first.tolist(), second.tolist()))
    assert [output["data"] for output in found["outputs"]] == [(first + 1).tolist(), (first - 1).tolist()]
    texts = pair("BYTES", list(map(str, first)), list(map(str, second)))
    _, found = asked(service, "v2/models/simple_string/infer", texts)
    assert found["outputs"][0]["data"] == list(map(str, first + 1))


def test_a_text_that_the_model_cannot_use_is_the_requests_fault(service):
    code, found = asked(service, "v2/models/simple_string/infer", pair("BYTES", ["seven"] * 16, ["1"] * 16))
    assert code == 400
    assert "texts" in found["error"]
    assert asked(service, "v2/models/simple_string/infer", pair("BYTES", ["7"] * 16, ["1"] * 16))[0] == 200


def test_statistics_count_what_was_answered(service):
    rows = pair("INT8", [1] * 16, [2] * 16)
    _, before = asked(service, "v2/models/simple_int8/stats")
    for _ in range(3):
        asked(service, "v2/models/simple_int8/infer", rows)
    asked(service, "v2/models/simple_int8/infer", {"inputs": []})
    _, after = asked(service, "v2/models/simple_int8/stats")
    was, now = (found["model_stats"][0] for found in (before, after))
    assert now["inference_count"] - was["inference_count"] == 3
    for side, count in (("success", 3), ("fail", 1)):
        assert now["inference_stats"][side]["count"] - was["inference_stats"][side]["count"] == count
    assert now["inference_stats"]["compute_infer"]["ns"] > was["inference_stats"]["compute_infer"]["ns"]
