"""Texts that name models, before a caller for whom some of these do not exist."""

from __future__ import annotations

from dataclasses import replace

import grpc
import pytest
from patience import eventually

from modelmill.errors import Overloaded
from modelmill.protocol.schema import schema
from modelmill.recipe.joined import publish
from modelmill.serve.access.caller import ANYONE, Sight
from modelmill.serve.access.door import discreet
from modelmill.serve.access.veil import veiled
from modelmill.serve.server import Limits

CALLER = replace(ANYONE, sight=Sight((), ("acme-*",), ("acme-*", "blue*")))
STEPS = [
    {
        "model": "blue-risk",
        "inputs": {"length": "length", "width": "width"},
        "outputs": {"label": "first", "probabilities": "parts"},
    },
    {
        "model": "flowers",
        "inputs": {"length": "length", "width": "width"},
        "outputs": {"label": "label", "probabilities": "probabilities"},
    },
]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a pipeline of blue-risk@1, acme-risk@2, mul@3", "a pipeline of another model, acme-risk@2, mul@3"),
        ("blue@12: is gone", "another model: is gone"),
        ("fixed by blue@3com, x-blue@1", "fixed by blue@3com, x-blue@1"),
    ],
)
def test_a_text_names_no_model_that_does_not_exist_for_its_reader(text, told):
    assert veiled({"note": [text]}, CALLER) == {"note": [told]}
    assert veiled(text, ANYONE) == text


def test_an_error_about_a_hidden_model_keeps_its_kind_and_loses_its_words():
    error = Overloaded("blue-risk@1", "cannot be had: no model named 'blue-risk'", "Load blue-risk.", 3.0)
    told = discreet(error, CALLER)
    assert (type(told), str(told), told.seconds) == (Overloaded, "another model: cannot be had", 3.0)
    assert str(error).startswith("blue-risk@1")
    assert discreet(error, ANYONE) is error


def test_no_answer_names_a_hidden_step_of_a_pipeline(start, keys, ask, shelf):
    keys.tenant("acme", models=["acme-*"])
    keys.tenant("blue", models=["blue-*"])
    acme, blue = (keys.create("k", ["infer", "read", "operate"], tenant)[0] for tenant in ("acme", "blue"))
    publish("shared", {"steps": STEPS}, shelf, promote=True)
    service = start(limits=Limits(watch_seconds=600.0), grpc_port=0)
    paths = ("/api/models/shared/changes", "/api/models/shared", "/api/models/shared/rollout", "/api/deployments")

    def told(key):
        found = [ask(service, "GET", path, key=key).body.decode() for path in paths]
        found.append(ask(service, "POST", "/v2/repository/index", {}, key=key).body.decode())
        found.append(ask(service, "POST", "/predict/shared", [[3, 1]], key=key).body.decode())
        return found

    assert all("blue" not in text for text in told(acme))
    assert "a pipeline of another model, flowers@1" in told(acme)[0]
    assert "a pipeline of another model, flowers@1" in told(acme)[1]
    assert "a pipeline of blue-risk@1, flowers@1" in told(blue)[0]
    assert "a pipeline of blue-risk@1, flowers@1" in told(blue)[1]
    assert ask(service, "POST", "/v2/repository/models/blue-risk/unload", {}, key=blue).code == 200
    assert all("blue" not in text for text in told(acme))
    answer = ask(service, "POST", "/predict/shared", [[3, 1]], key=acme)
    words = "another model: is unloaded, and the pipeline needs it"
    assert (answer.code, answer.json["error"]) == (503, words)
    inputs = [
        {"name": name, "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [3.0]}}
        for name in ("length", "width")
    ]
    message = schema().encode("inference.ModelInferRequest", {"model_name": "shared", "inputs": inputs})
    with grpc.insecure_channel(service.grpc_url) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        error = infer.future(message, timeout=20, metadata=[("x-api-key", acme)]).exception()
    assert error.details() == words
    assert eventually(lambda: "blue-risk@1 is unloaded" in told(blue)[4])
