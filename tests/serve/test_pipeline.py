"""Pipelines served: one request through several models, over every wire."""

from __future__ import annotations

import http.client
import json
import struct
import time
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest
from patience import eventually
from typer.testing import CliRunner

import modelmill
from modelmill.cli import app
from modelmill.client import Client
from modelmill.errors import SpecError, UnknownModel
from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.protocol.schema import schema
from modelmill.registry.registry import Registry
from modelmill.serve.access.access import Access
from modelmill.serve.access.keys import Keys
from modelmill.serve.request import encode
from modelmill.serve.server import Limits, Service
from modelmill.serve.traffic.book import Book
from modelmill.serve.traffic.rollout import Plan
from modelmill.serve.traffic.start import start
from modelmill.signature import Field, Signature
from modelmill.store.home import Home

STEPS = """
outputs = ["label", "scaled"]

[[steps]]
model = "flowers"
inputs = { length = "scaled", width = "width" }
outputs = { label = "label", probabilities = "unused" }

[[steps]]
model = "scale@1"
inputs = { x = "length" }
outputs = { y = "scaled" }
"""


def scale(factor):
    """A model that multiplies its one input."""
    writer = Writer()
    writer.rename(writer.op("Mul", ["x", writer.constant(np.array(factor, np.float32))]), "y")
    inputs, outputs = (Field("x", "FP32"),), (Field("y", "FP32"),)
    return to_onnx(writer.fragment(), inputs, outputs), Signature("compute", inputs, outputs)


@pytest.fixture
def place(tmp_path, publish_flowers):
    place = Home(tmp_path)
    registry = Registry(place.database, place.blobs)
    for factor in (-1, 2):
        onnx, signature = scale(factor)
        registry.publish("scale", {"model.onnx": onnx}, signature, promote=True)
    publish_flowers(registry)
    return place


@pytest.fixture
def registry(place):
    return Registry(place.database, place.blobs)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "steps.toml"
    path.write_text(STEPS)
    return path


def test_a_pipeline_answers_as_its_steps_would_over_every_wire(place, registry, file):
    version = modelmill.publish_pipeline("joined", file, place=place)
    assert [field.name for field in version.signature.inputs] == ["length", "width"]
    registry.rollback("scale")  # what was pinned stays: it was scale@1 from the start
    with Service(registry, ["joined"], grpc_port=0) as service:
        connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=20)

        def ask(method, path, body=None):
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            return response.status, json.loads(response.read())

        rows = [[3, 1], [-3, 1]]
        found = ask("POST", "/predict/joined", rows)[1]["predictions"]
        assert found == [{"label": "wide", "scaled": -3.0}, {"label": "long", "scaled": 3.0}]
        inputs = [
            {"name": name, "datatype": "FP32", "shape": [2], "data": [row[place] for row in rows]}
            for place, name in enumerate(("length", "width"))
        ]
        answer = ask("POST", "/v2/models/joined/infer", {"inputs": inputs, "outputs": [{"name": "scaled"}]})[1]
        assert [(output["name"], output["data"]) for output in answer["outputs"]] == [("scaled", [-3.0, 3.0])]
        assert ask("POST", "/predict/joined", [["x", 1]])[0] == 400
        assert ask("GET", "/v2/models/joined")[1]["platform"] == "ensemble"
        steps = ask("GET", "/v2/models/joined/config")[1]["ensemble_scheduling"]["step"]
        assert [(step["model_name"], step["model_version"]) for step in steps] == [("scale", 1), ("flowers", 1)]
        assert steps[1]["input_map"] == {"length": "scaled", "width": "width"}
        stats = ask("GET", "/v2/models/joined/stats")[1]["model_stats"][0]
        assert stats["inference_count"] == 4
        assert stats["execution_count"] == 2
        assert ask("POST", "/predict/flowers", rows)[0] == 404  # a step is not served by itself
        connection.close()

        request = {
            "model_name": "joined",
            "inputs": [{"name": name, "datatype": "FP32", "shape": [2]} for name in ("length", "width")],
            "raw_input_contents": [struct.pack("<2f", 3, -3), struct.pack("<2f", 1, 1)],
        }
        with grpc.insecure_channel(service.grpc_url) as channel:
            data = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(
                schema().encode("inference.ModelInferRequest", request), timeout=20
            )
            raw = schema().decode("inference.ModelInferResponse", data)["raw_output_contents"]
            assert raw[0] == encode(np.array(["wide", "long"], object))
            config = channel.unary_unary("/inference.GRPCInferenceService/ModelConfig")(
                schema().encode("inference.ModelConfigRequest", {"name": "joined"}), timeout=20
            )
            config = schema().decode("inference.ModelConfigResponse", config)["config"]
            assert config["ensemble_scheduling"]["step"][0]["input_map"] == {"x": "length"}


def test_a_step_that_was_unloaded_makes_its_pipelines_unavailable(place, registry, file):
    modelmill.publish_pipeline("joined", file, place=place)
    with Service(registry) as service:
        connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=20)

        def post(path, body):
            connection.request("POST", path, json.dumps(body))
            response = connection.getresponse()
            return response.status, response.read().decode()

        assert post("/predict/joined", [[3, 1]])[0] == 200
        assert post("/v2/repository/models/scale/unload", {})[0] == 200
        code, words = post("/predict/joined", [[3, 1]])
        assert code == 503
        assert "scale@1: is unloaded, and the pipeline needs it" in words
        assert post("/v2/repository/models/scale/load", {})[0] == 200
        assert post("/predict/joined", [[3, 1]])[0] == 200
        gone = {"parameters": {"unload_dependents": True}}
        assert post("/v2/repository/models/joined/unload", gone)[0] == 200
        assert [post(f"/predict/{name}", [[3, 1]])[0] for name in ("joined", "flowers", "scale")] == [404, 404, 404]
        connection.close()


@pytest.mark.parametrize("lack", ["is unloaded", "is gone"])
def test_a_pipeline_without_a_step_is_not_ready_on_any_wire(place, registry, file, lack):
    modelmill.publish_pipeline("joined", file, place=place)
    with Service(registry, grpc_port=0, limits=Limits(watch_seconds=0.02)) as service:
        client = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=20)
        channel = grpc.insecure_channel(service.grpc_url)

        def ask(method, path, body=None):
            client.request(method, path, None if body is None else json.dumps(body))
            response = client.getresponse()
            return response.status, json.loads(response.read())

        def ready_over_grpc():
            path = "/inference.GRPCInferenceService/ModelReady"
            sent = schema().encode("inference.ModelReadyRequest", {"name": "joined"})
            answer = channel.unary_unary(path)(sent, timeout=20)
            return schema().decode("inference.ModelReadyResponse", answer)["ready"]

        def listed(**wanted):
            models = ask("POST", "/v2/repository/index", wanted)[1]
            return {model["name"]: (model["state"], model["reason"]) for model in models}

        assert ask("GET", "/v2/models/joined/ready") == (200, {"name": "joined", "ready": True})
        assert ready_over_grpc()
        assert listed(ready=True)["joined"] == ("READY", "")
        if lack == "is unloaded":
            ask("POST", "/v2/repository/models/scale/unload", {})
        else:
            registry.delete("scale@1", force=True)
        assert eventually(lambda: "joined" not in listed(ready=True))
        assert ask("GET", "/v2/models/joined/ready") == (503, {"name": "joined", "ready": False})
        assert not ready_over_grpc()
        assert listed()["joined"] == ("UNAVAILABLE", f"scale@1 {lack}, and the pipeline needs it")
        assert ask("POST", "/predict/joined", [[3, 1]])[0] == 503
        if lack == "is unloaded":
            ask("POST", "/v2/repository/models/scale/load", {})
            assert ask("GET", "/v2/models/joined/ready")[0] == 200
            assert ready_over_grpc()
            assert listed(ready=True)["joined"] == ("READY", "")
        client.close()
        channel.close()


@pytest.mark.parametrize("wire", ["http", "grpc"])
def test_who_loads_a_pipeline_loads_its_steps(place, registry, file, wire):
    """Each is in the audit log; where a step cannot be had the pipeline is not loaded, and the step is named."""
    modelmill.publish_pipeline("joined", file, place=place)
    with Service(registry, grpc_port=0, access=Access(place.database, place.path)) as service:
        client = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=20)
        channel = grpc.insecure_channel(service.grpc_url)

        def post(path, body):
            client.request("POST", path, json.dumps(body))
            response = client.getresponse()
            return response.status, json.loads(response.read())

        def change(verb, name):
            """The words of the refusal; empty where there is none."""
            if wire == "http":
                return post(f"/v2/repository/models/{name}/{verb}", {})[1].get("error", "")
            message = f"RepositoryModel{verb.capitalize()}"
            sent = schema().encode(f"inference.{message}Request", {"model_name": name})
            try:
                channel.unary_unary(f"/inference.GRPCInferenceService/{message}")(sent, timeout=20)
            except grpc.RpcError as error:
                return f"{error.code().name}: {error.details()}"
            return ""

        def codes():
            return [post(f"/predict/{name}", [[3, 1]])[0] for name in ("joined", "flowers")]

        for name in ("scale", "flowers", "joined"):
            assert change("unload", name) == ""
        assert codes() == [404, 404]
        assert change("load", "joined") == ""
        assert codes() == [200, 200]
        assert change("unload", "flowers") == ""
        assert codes() == [503, 404]
        assert change("load", "joined") == ""
        assert codes() == [200, 200]
        assert change("unload", "joined") == ""
        assert codes() == [404, 200]
        registry.delete("scale@1", force=True)
        assert "scale@1: is gone, and the pipeline needs it" in change("load", "joined")
        assert codes() == [404, 200]
        client.close()
        channel.close()
    with place.database.reading() as connection:
        noted = connection.rows("SELECT subject FROM audit WHERE verb = 'serve.load' ORDER BY id")
    assert [subject for (subject,) in noted] == ["flowers", "scale", "joined", "flowers", "joined"]


def test_what_cannot_be_joined_is_refused(place, file, tmp_path):
    modelmill.publish_pipeline("joined", file, place=place)
    one = {"inputs": {"x": "a"}, "outputs": {"y": "b"}}
    with pytest.raises(UnknownModel, match="nobody"):
        modelmill.publish_pipeline("p", {"steps": [{"model": "nobody", **one}]}, place=place)
    with pytest.raises(SpecError, match="is a pipeline itself"):
        modelmill.publish_pipeline("p", {"steps": [{"model": "joined", **one}]}, place=place)
    with pytest.raises(SpecError, match="unknown field"):
        modelmill.publish_pipeline("p", {"steps": [], "step": []}, place=place)
    broken = tmp_path / "broken.toml"
    broken.write_text("[[steps")
    with pytest.raises(SpecError, match="is not TOML"):
        modelmill.publish_pipeline("p", broken, place=place)


def test_a_pipeline_is_published_and_shown_on_the_command_line(place, file, monkeypatch):
    monkeypatch.setenv("MODELMILL_HOME", str(place.path))
    done = CliRunner().invoke(app, ["models", "pipeline", "joined", str(file)])
    assert (done.exit_code, done.output) == (0, "joined@1 (live) takes length, width\n")
    shown = CliRunner().invoke(app, ["models", "show", "joined"])
    assert shown.exit_code == 0
    assert "a pipeline of scale@1, flowers@1" in " ".join(shown.output.split())


def test_a_pipeline_is_rolled_out_like_any_model(place, registry, file):
    modelmill.publish_pipeline("joined", file, place=place)
    file.write_text(STEPS.replace("scale@1", "scale@2"))
    modelmill.publish_pipeline("joined", file, place=place)
    start(registry, "joined@2", Plan())
    with Service(registry, limits=Limits(watch_seconds=0.02)) as service:
        client = modelmill.Client(service.url)
        book, end = Book(place.database), time.monotonic() + 60
        while book.running() and time.monotonic() < end:
            assert client.predict("joined", [[3, 1], [1, 3]])["scaled"].tolist() == [-3, -1]
    assert "answers differ" in book.latest()[0].reason


def test_who_unloads_a_pipeline_unloads_of_its_parts_what_is_theirs(place, file):
    """Each that goes is in the audit log; a part that another tenant claims stays, and is not named.

    A part that nobody claims stays, too: others use it.
    """
    modelmill.publish_pipeline("joined", file, place=place)
    keys = Keys(place.database)
    keys.tenant("acme", models=["joined"])
    keys.tenant("blue", models=["scale"])
    secret, theirs = (keys.create("k", ["infer", "read", "operate"], tenant)[0] for tenant in ("acme", "blue"))
    access = Access(place.database, place.path)
    with Service(Registry(place.database, place.blobs), access=access, grpc_port=0) as service:

        def ask(method, path, key, body=None):
            connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=60)
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            found = response.status, json.loads(response.read())
            connection.close()
            return found

        config = ask("GET", "/v2/models/joined/config", secret)[1]
        assert [step["model_name"] for step in config["ensemble_scheduling"]["step"]] == ["flowers"]
        gone = {"parameters": {"unload_dependents": True}}
        assert ask("POST", "/v2/repository/models/joined/unload", secret, gone)[0] == 200
        assert [ask("GET", f"/v2/models/{name}/ready", secret)[0] for name in ("joined", "flowers")] == [404, 200]
        keys.tenant("acme", models=["joined", "flowers"])
        assert eventually(lambda: ask("POST", "/v2/repository/models/flowers/load", secret, {})[0] == 200)
        assert ask("POST", "/v2/repository/models/joined/load", secret, {})[0] == 200
        assert ask("POST", "/v2/repository/models/joined/unload", secret, gone)[0] == 200
        assert [ask("GET", f"/v2/models/{name}/ready", secret)[0] for name in ("joined", "flowers")] == [404, 404]
        assert ask("GET", "/v2/models/scale/ready", theirs)[0] == 200
        with place.database.reading() as connection:
            noted = connection.rows("SELECT subject FROM audit WHERE verb = 'serve.unload' ORDER BY id")
        assert [subject for (subject,) in noted] == ["joined", "flowers", "joined"]


def test_runs_of_steps_are_added_up_though_no_answer_is_theirs(place, registry, file):
    """A model that is a step only has nobody who asks for it: its runs are counted, and not kept for ever."""
    modelmill.publish_pipeline("joined", file, place=place)
    with Service(registry, ["joined"]) as service:
        with Client(service.url) as client:
            for _ in range(5):
                client.infer("joined", {"length": [3.0], "width": [1.0]})
        figures = service.server.signals.figures
        assert eventually(lambda: not figures._served["scale", "1"]._ones._noted)
        assert figures.of("scale", "1")._at_rest
        assert sum(figures.series()['["rows", "scale", "1"]'][:-1]) == 5
