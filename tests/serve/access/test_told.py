"""What is told of refusals: of which model and of whose key, alike for every face."""

from __future__ import annotations

import json
import struct

import grpc
import pytest

from modelmill.errors import OverQuota, TooLarge
from modelmill.protocol.schema import schema
from modelmill.serve.access.quota import Quota
from modelmill.serve.rpc.status import as_http
from modelmill.serve.signals.kinds import by_kind
from modelmill.serve.signals.signals import Telling
from modelmill.serve.signals.status import counts

PACKAGE = "/inference.GRPCInferenceService/"
INPUTS = [{"name": name, "datatype": "FP32", "shape": [1]} for name in ("length", "width")]
BODY = json.dumps({"inputs": [{**tensor, "data": [1]} for tensor in INPUTS]}).encode()


def message(model, version=""):
    request = {"model_name": model, "model_version": version, "id": "7", "inputs": INPUTS}
    raw = [struct.pack("<f", 1.0)] * 2
    return schema().encode("inference.ModelInferRequest", {**request, "raw_input_contents": raw})


@pytest.fixture
def everywhere(ask):
    """Asks a model on every way that a request may take, with a key; the codes of HTTP and the names of gRPC's."""

    def call(service, model, key, version=""):
        part = f"/versions/{version}" if version else ""
        at = f"{model}@{version}" if version else model
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        codes = [
            ask(service, "POST", f"/v2/models/{model}{part}/infer", BODY, key).code,
            ask(service, "POST", f"/predict/{at}", b"[[3, 1]]", key).code,
        ]
        with grpc.insecure_channel(service.grpc_url) as channel:
            try:
                send = channel.unary_unary(f"{PACKAGE}ModelInfer")
                send(message(model, version), timeout=20, metadata=tuple(headers.items()))
                codes.append("OK")
            except grpc.RpcError as error:
                codes.append(error.code().name)
            try:
                stream = channel.stream_stream(f"{PACKAGE}ModelStreamInfer")
                (answer,) = stream(iter([message(model, version)]), timeout=20, metadata=tuple(headers.items()))
                found = schema().decode("inference.ModelStreamInferResponse", answer)
                codes.append("ERROR" if found.get("error_message") else "OK")
            except grpc.RpcError as error:
                codes.append(error.code().name)
        return codes

    return call


def counted(service):
    """How many answers of each model, version and code there are over each face."""
    found = by_kind(service.server.signals.figures.series()).get("answers", ())
    return {tuple(labels): values[0] for labels, values in found if values[0]}


def test_what_a_quota_refuses_is_the_models_over_every_face_and_tells_whose_it_was(start, keys, tmp_path, everywhere):
    log = tmp_path / "log"
    secret, _ = keys.create("slow", quota=Quota(requests_per_s=0.001, burst=1))
    service = start(grpc_port=0, telling=Telling(log, 1.0))
    assert everywhere(service, "flowers", secret) == [200, 429, "RESOURCE_EXHAUSTED", "ERROR"]
    everywhere(service, "flowers", secret, "1")
    everywhere(service, "flowers", secret, "999")
    service.close()
    assert counted(service) == {
        ("flowers", "1", "v2", "200"): 1,
        ("flowers", "1", "v2", "429"): 1,
        ("flowers", "1", "predict", "429"): 2,
        ("flowers", "1", "grpc", "429"): 4,
        ("flowers", "", "v2", "429"): 1,
        ("flowers", "", "predict", "429"): 1,
        ("flowers", "", "grpc", "429"): 2,
    }
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == 12
    owed = counts(service.server.signals.figures.series())
    assert (owed.requests, owed.refused) == (1, 0)
    assert {(line["model"], line["tenant"]) for line in lines} == {("flowers", "default")}


@pytest.mark.parametrize("model", ["blue-risk", "none"])
def test_what_whoever_asks_does_not_see_is_nobodys(start, keys, everywhere, model):
    keys.tenant("blue", models=["blue-*"])
    secret, _ = keys.create("slow", quota=Quota(requests_per_s=0.001, burst=1))
    service = start(grpc_port=0)
    assert everywhere(service, model, secret)[1:] == [429, "RESOURCE_EXHAUSTED", "ERROR"]
    assert everywhere(service, "flowers", None) == [401, 401, "UNAUTHENTICATED", "UNAUTHENTICATED"]
    assert {(name, version) for name, version, _, _ in counted(service)} == {("", "")}


def test_what_is_too_large_is_counted_by_the_same_code_as_over_http():
    assert as_http(TooLarge("message", "has 9 bytes")) == 413
    assert as_http(OverQuota("quota", "is used up")) == 429


def test_what_a_service_that_ends_refuses_is_the_models(start, keys, everywhere):
    secret, _ = keys.create("any")
    service = start(grpc_port=0)
    service.server.state.refusing = True
    assert everywhere(service, "flowers", secret)[1:3] == [503, "UNAVAILABLE"]
    assert {(name, version) for name, version, _, _ in counted(service)} == {("flowers", "1")}
