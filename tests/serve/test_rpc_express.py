"""The short way of gRPC for what runs on threads: the same answers and words as the ordinary way, told once."""

from __future__ import annotations

import struct

import grpc
import pytest
from patience import eventually
from slow import slowed

from modelmill.protocol.schema import schema
from modelmill.serve.engine.engine import Capacity
from modelmill.serve.rpc.express import Express
from modelmill.serve.server import Limits, Service

INFER = "/inference.GRPCInferenceService/ModelInfer"
ORDINARY = (("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),)
"""Metadata that the short way leaves to the ordinary one."""


def flower(length=3.0, **rest):
    return schema().encode(
        "inference.ModelInferRequest",
        {
            "model_name": "flowers",
            "id": "7",
            "inputs": [{"name": name, "datatype": "FP32", "shape": [1]} for name in ("length", "width")],
            "raw_input_contents": [struct.pack("<f", length), struct.pack("<f", 1)],
            **rest,
        },
    )


@pytest.fixture
def ways(monkeypatch):
    """How each request was taken: "short", or "ordinary"."""
    found = []
    answer = Express.answer

    def watched(self, *given):
        said = answer(self, *given)
        found.append("ordinary" if said is None else "short")
        return said

    monkeypatch.setattr(Express, "answer", watched)
    return found


@pytest.fixture
def single(registry, ways):
    """A service of one thread, whose model waits on it; a call; and what opens."""
    with Service(registry, ["flowers"], limits=Limits(capacity=Capacity(threads=1)), grpc_port=0) as service:
        slow = slowed(service)
        with grpc.insecure_channel(service.grpc_url) as channel:
            yield service, channel.unary_unary(INFER), slow
        slow.gate.set()


def code_of(future):
    with pytest.raises(grpc.RpcError) as error:
        future.result(20)
    return error.value.code().name, error.value.details()


def told(service):
    return sorted(code for _, code in service.server.signals.figures.of("flowers", "1")._answers)


def test_both_ways_give_the_same_answers(single, ways):
    service, call, slow = single
    futures = [call.future(flower(length)) for length in (3, -3, 2)]
    assert eventually(lambda: service.server.engine.waiting == 2)
    slow.gate.set()
    short = [future.result(20) for future in futures]
    assert short == [call(flower(length), timeout=20, metadata=ORDINARY) for length in (3, -3, 2)]
    labels = [schema().decode("inference.ModelInferResponse", body)["raw_output_contents"][0][4:] for body in short]
    assert labels == [b"long", b"wide", b"long"]
    assert ways == ["short"] * 3 + ["ordinary"] * 3
    assert eventually(lambda: service.server.state.in_flight == 0)
    assert told(service) == [200]


def test_both_ways_fail_in_the_same_words(single, ways):
    service, call, slow = single
    slow.fails = True
    slow.gate.set()
    short = code_of(call.future(flower()))
    assert "the model broke" in short[1]
    assert code_of(call.future(flower(), metadata=ORDINARY)) == short
    assert ways == ["short", "ordinary"]
    assert told(service) == [500]


def test_what_the_engine_refuses_is_refused_once(single, ways):
    service, call, slow = single
    service.server.engine.capacity = Capacity(threads=1, waiting=0)
    first = call.future(flower())
    assert eventually(lambda: service.server.engine.running == 1)
    short = code_of(call.future(flower()))
    assert short[0] == "RESOURCE_EXHAUSTED"
    assert code_of(call.future(flower(), metadata=ORDINARY)) == short
    slow.gate.set()
    assert first.result(20)
    assert ways == ["short", "ordinary"]  # the refused one raised, and was not asked anew
    assert told(service) == [200, 429]


def test_time_that_runs_out_while_it_waits_is_told(single, ways):
    service, call, _ = single
    first = call.future(flower())
    assert eventually(lambda: service.server.engine.running == 1)
    assert code_of(call.future(flower(parameters={"timeout": {"int64_param": 1_000_000}})))[0] == "DEADLINE_EXCEEDED"
    first.cancel()
    assert eventually(lambda: service.server.engine.running == 0)
    assert set(ways) == {"short"}
    assert eventually(lambda: told(service) == [499, 504])
    assert service.server.state.in_flight == 0


def test_a_version_that_is_asked_for_goes_the_short_way_once_it_is_in_memory(registry, ways):
    with Service(registry, ["flowers"], grpc_port=0) as service, grpc.insecure_channel(service.grpc_url) as channel:
        call = channel.unary_unary(INFER)
        found = [schema().decode("inference.ModelInferResponse", call(flower(model_version="2"))) for _ in range(3)]
        assert [(each["model_version"], each["raw_output_contents"][0][4:]) for each in found] == [("2", b"wide")] * 3
        with pytest.raises(grpc.RpcError) as error:
            call(flower(model_version="9"))
    assert error.value.code().name == "NOT_FOUND"
    assert ways == ["ordinary", "short", "short", "ordinary"]
