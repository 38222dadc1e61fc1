"""Answers much longer than their requests: refused where memory does not suffice, and written while others go on."""

from __future__ import annotations

import http.client
import json
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from command import served

from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.registry.registry import Registry
from modelmill.runtime.memory import machine_bytes
from modelmill.serve.request import LONG_ELEMENTS
from modelmill.serve.server import Service
from modelmill.serve.web import wire
from modelmill.signature import Field, Signature
from modelmill.store.home import Home

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA bounds memory on Linux alone")


@pytest.fixture
def home(tmp_path) -> Path:
    """With a model that gives so many numbers as it is asked for."""
    fields = (Field("n", "INT64", (1,), "array", axis=None),)
    outputs = (Field("y", "FP32", (-1,)),)
    writer = Writer()
    writer.rename(writer.op("Neg", [writer.op("ConstantOfShape", ["n"])]), "y")
    place = Home(tmp_path)
    signature = Signature("compute", fields, outputs, example=([3],))
    onnx = to_onnx(writer.fragment(), fields, outputs)
    Registry(place.database, place.blobs).publish("grow", {"model.onnx": onnx}, signature)
    place.database.close()
    return tmp_path


def asked(url, count):
    tensor = {"name": "n", "datatype": "INT64", "shape": [1], "data": [count]}
    body = json.dumps({"inputs": [tensor]}).encode()
    connection = http.client.HTTPConnection(urlsplit(url).netloc)  # one that goes on: the short way has no others
    try:
        connection.request("POST", "/v2/models/grow/infer", body)
        answer = connection.getresponse()
        found = json.load(answer)
        return answer.status, found if answer.status == 200 else found["error"]
    finally:
        connection.close()


def test_what_needs_more_memory_than_there_is_is_refused_and_the_service_goes_on(home):
    import resource

    with served(home, "--no-grpc", "--lead", "0") as (process, url):
        assert asked(url, 2)[1]["outputs"][0]["data"] == [0, 0]
        soft, hard = resource.prlimit(process.pid, resource.RLIMIT_DATA)
        assert 0 < soft < machine_bytes()
        had_bytes = int(Path(f"/proc/{process.pid}/status").read_text().partition("VmData:")[2].split()[0]) * 1024
        resource.prlimit(process.pid, resource.RLIMIT_DATA, (had_bytes + 400_000_000, hard))
        code, words = asked(url, 300_000_000)
        assert (code, words[:43]) == (413, "inputs: the model needs more memory for thi")
        assert asked(url, 10**12)[0] == 413
        code, words = asked(url, 30_000_000)  # 240 MB for the run, and as much and more for the answer
        assert (code, words[:28]) == (413, "body: needs more memory than"), words
        assert asked(url, 2)[1]["outputs"][0]["data"] == [0, 0]


def test_a_long_answer_of_a_size_that_nobody_knew_is_written_while_others_are_answered(home):
    """Where a row of an output is open, the short way finds only with the answer that it is long."""
    place = Home(home)
    with Service(Registry(place.database, place.blobs)) as service, pytest.MonkeyPatch.context() as patch:
        written = []
        write = wire.write

        def watched(*given):
            written.append(threading.current_thread().name)
            return write(*given)

        patch.setattr(wire, "write", watched)
        for count in (2, LONG_ELEMENTS + 1):
            assert asked(service.url, count)[1]["outputs"][0]["data"] == [0] * count
    assert written[0] == "modelmill-serve" != written[1]
