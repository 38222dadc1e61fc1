"""How the service starts, follows the registry, and ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import grpc
import pytest
from patience import eventually
from slow import slowed

from modelmill.cli import run as run_inside
from modelmill.client import Client
from modelmill.errors import Overloaded, UnknownModel, WorkError
from modelmill.protocol.schema import schema
from modelmill.registry.registry import Registry
from modelmill.serve.engine.engine import Capacity
from modelmill.serve.models.catalogue import Keeping
from modelmill.serve.ports import listening
from modelmill.serve.server import Limits, Service, run
from modelmill.store.home import Home

QUICK = Limits(watch_seconds=0.02)


def label(client, name="flowers"):
    return client.predict(name, [[3, 1]])["label"][0]


def test_a_promoted_version_answers_without_a_restart(empty_registry, publish_flowers):
    registry = empty_registry
    publish_flowers(registry)
    with Service(registry, limits=QUICK) as service, Client(service.url) as client:
        assert label(client) == "long"
        publish_flowers(registry, sign=-1, promote=True)
        assert eventually(lambda: label(client) == "wide")
        registry.rollback("flowers")
        assert eventually(lambda: label(client) == "long")


def test_a_new_model_appears_by_itself_unless_names_were_given(empty_registry, publish_flowers):
    registry = empty_registry
    publish_flowers(registry, "a")
    with Service(registry, limits=QUICK) as every, Service(registry, ["a"], limits=QUICK) as one:
        publish_flowers(registry, "b")
        assert eventually(lambda: [m["name"] for m in Client(every.url).models()] == ["a", "b"])
        assert [m["name"] for m in Client(one.url).models()] == ["a"]


def test_a_named_version_is_what_the_name_stands_for(registry):
    with Service(registry, ["flowers@2"]) as service:
        assert label(Client(service.url)) == "wide"


@pytest.mark.parametrize(
    ("published", "arguments", "hinted"), [(False, [], 1), (False, ["--workers", "2"], 1), (True, [], 0)]
)
def test_a_home_without_a_live_model_is_served_with_a_hint(tmp_path, publish_flowers, published, arguments, hinted):
    place = Home(tmp_path)
    if published:
        publish_flowers(Registry(place.database, place.blobs))
    place.database.close()
    command = [sys.executable, "-m", "modelmill.cli", "serve", "--port", "0", "--no-grpc", *arguments]
    environment = {**os.environ, "MODELMILL_HOME": str(tmp_path)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        seen = ""
        while "modelmill serves" not in seen or seen.count("modelmill import") < hinted:
            line = process.stderr.readline()
            assert line, seen
            seen += line
    finally:
        process.terminate()
        out, rest = process.communicate(timeout=60)
    assert (seen + rest).count("There is no live model to serve yet") == hinted
    assert out == ""


def test_an_empty_registry_is_served_and_fills_up(empty_registry, publish_flowers):
    with Service(empty_registry, limits=QUICK) as service, Client(service.url) as client:
        assert client.models() == []
        publish_flowers(empty_registry)
        assert eventually(lambda: len(client.models()) == 1)


def test_a_broken_version_leaves_the_one_before_in_place(empty_registry, publish_flowers, flowers_signature, capsys):
    registry = empty_registry
    publish_flowers(registry)
    with Service(registry, limits=QUICK) as service, Client(service.url) as client:
        registry.publish("flowers", {"model.onnx": b"broken"}, flowers_signature, promote=True)
        assert eventually(lambda: client.models()[0]["problem"])
        assert label(client) == "long"
    assert "flowers@2: cannot be loaded" in capsys.readouterr().err


def test_what_cannot_be_loaded_is_unavailable_to_every_client_and_told_once_at_the_start(
    empty_registry, publish_flowers, flowers_signature, tmp_path, capsys
):
    registry = empty_registry
    damaged = publish_flowers(registry)
    registry.publish("bad", {"model.onnx": b"broken"}, flowers_signature)
    (blob,) = tmp_path.rglob(damaged.files["model.onnx"].removeprefix("sha256:") + "*")
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    with Service(registry, limits=Limits(watch_seconds=60), grpc_port=0) as service:
        said = capsys.readouterr().err
        with pytest.raises(Overloaded, match="flowers@1: cannot be loaded: the stored bytes") as refusal:
            Client(service.url).predict("flowers", [[3, 1]])
        with urlopen(Request(f"{service.url}/v2/repository/index", b"{}")) as answer:
            reasons = {each["name"]: each["reason"] for each in json.load(answer)}
        with grpc.insecure_channel(service.grpc_url) as channel:
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            message = schema().encode("inference.ModelInferRequest", {"model_name": "flowers"})
            with pytest.raises(grpc.RpcError) as call:
                infer(message, timeout=30)
    assert call.value.code() == grpc.StatusCode.UNAVAILABLE
    assert set(said.splitlines()) == {f"modelmill serve: {reason}" for reason in reasons.values()}
    for words in (str(refusal.value), call.value.details(), *reasons.values()):
        assert str(tmp_path) not in words
        assert words.count("cannot be loaded") == 1


def test_an_unknown_name_keeps_the_service_from_starting(registry):
    with pytest.raises(UnknownModel), Service(registry, ["nobody"]):
        pass


def test_a_taken_port_is_said_with_a_way_out(registry):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(WorkError, match=r"the port is taken.*--port"):
            run(registry, port=port)


def way_out(port, other):
    """The port that is offered in place of a taken one."""
    with pytest.raises(WorkError) as said, listening("127.0.0.1", port, other=other):
        pass
    return int(re.search(r"--port (\d+)\.", str(said.value))[1])


def test_the_way_out_of_a_taken_port_is_free_and_not_the_services_other_one():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        first = way_out(port, None)
        assert way_out(port, first) not in (port, first)
        with socket.create_server(("127.0.0.1", first)):
            assert way_out(port, None) not in (port, first)


def test_one_port_for_http_and_grpc_is_said_before_anything_listens(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert run_inside(["serve", "--port", port, "--grpc-port", port]) == 2
    said = capsys.readouterr().err
    assert "is the port of HTTP, too" in said
    assert "taken" not in said
    assert f"--grpc-port {port}." not in said


def in_thread(work):
    found = {}

    def keep():
        try:
            found["value"] = work()
        except Exception as error:
            found["error"] = error
            raise

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    return thread, found


def test_draining_lets_readiness_fall_first_and_answers_what_is_in_flight(registry):
    with Service(registry, ["flowers"]) as service:
        slow = slowed(service)
        thread, found = in_thread(lambda: label(Client(service.url)))
        assert slow.started.wait(10)
        other = Client(service.url)
        assert other.ready()
        service.server.drain()
        assert eventually(lambda: not other.ready())
        with pytest.raises(Overloaded, match="shutting down"):
            other.predict("flowers", [[1, 2]])
        slow.gate.set()
        thread.join(10)
        assert found["value"] == "long"
        service.thread.join(10)
        assert not service.thread.is_alive()


def test_overload_is_429_with_retry_after(registry):
    limits = Limits(capacity=Capacity(threads=1, waiting=0))
    with Service(registry, ["flowers"], limits=limits) as service:
        slow = slowed(service)
        thread, found = in_thread(lambda: label(Client(service.url)))
        assert slow.started.wait(10)
        connection = http.client.HTTPConnection(urlsplit(service.url).netloc)
        connection.request("POST", "/predict/flowers", b"[[1, 2]]")
        response = connection.getresponse()
        assert (response.status, response.headers["retry-after"]) == (429, "1")
        connection.close()
        slow.gate.set()
        thread.join(10)
        assert found["value"] == "long"


def test_a_client_that_leaves_takes_its_work_with_it(registry):
    limits = Limits(capacity=Capacity(threads=1))
    with Service(registry, ["flowers"], limits=limits) as service:
        slow = slowed(service)
        thread, _ = in_thread(lambda: label(Client(service.url)))
        assert slow.started.wait(10)
        host, port = urlsplit(service.url).netloc.split(":")
        engine = service.server.engine
        with socket.create_connection((host, int(port))) as leaving:
            leaving.sendall(b"POST /predict/flowers HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\n[[1, 2]]")
            assert eventually(lambda: engine.waiting == 1)
        assert eventually(lambda: engine.waiting == 0)
        slow.gate.set()
        thread.join(10)


class Held:
    """A registry that holds whoever reads a file until its gate is open."""

    def __init__(self, shelf):
        self.shelf = shelf
        self.read = []
        self.gate = threading.Event()

    def __getattr__(self, name):
        return getattr(self.shelf, name)

    def file(self, version, name):
        self.read.append(version.name)
        assert self.gate.wait(30)
        return self.shelf.file(version, name)


def test_a_service_that_is_ended_while_it_loads_loads_no_further_model_and_announces_nothing(
    empty_registry, publish_flowers
):
    for name in ("a", "b", "c", "d"):
        publish_flowers(empty_registry, name)
    held = Held(empty_registry)
    service = Service(held, limits=Limits(lead_seconds=20.0), grpc_port=0)
    try:
        service.thread.start()
        assert eventually(lambda: len(held.read) == 2)  # as many as load at a time
        service.server.drain()
        assert eventually(lambda: service.server.should_exit)
        assert not service.up.is_set()
        held.gate.set()
        service.thread.join(15)  # not the lead, which is for clients
        assert not service.thread.is_alive()
    finally:
        held.gate.set()
        service.close()
    assert (len(held.read), service.failure, service.grpc_url) == (2, None, "")
    assert not service.server.state.ready


FLOWER = [{"name": name, "datatype": "FP32", "shape": [1]} for name in ("length", "width")]


@pytest.mark.parametrize("wire", ["http", "grpc"])
def test_a_timeout_holds_while_the_model_is_loaded_and_the_load_goes_on(empty_registry, publish_flowers, wire):
    publish_flowers(empty_registry)
    held = Held(empty_registry)
    limits = Limits(keeping=Keeping(eager=0))
    with Service(held, limits=limits, grpc_port=0) as service, grpc.insecure_channel(service.grpc_url) as channel:
        ask = over_http(service.url) if wire == "http" else over_grpc(channel)
        try:
            assert ask(50_000) in (504, grpc.StatusCode.DEADLINE_EXCEEDED)
            assert len(held.read) == 1
        finally:
            held.gate.set()
        assert ask(None) in (200, grpc.StatusCode.OK)
        assert len(held.read) == 1


def over_http(url):
    def ask(timeout_us):
        tensors = [{**tensor, "data": [1.0]} for tensor in FLOWER]
        said = {} if timeout_us is None else {"parameters": {"timeout": timeout_us}}
        with contextlib.closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)) as connection:
            connection.request("POST", "/v2/models/flowers/infer", json.dumps({"inputs": tensors, **said}))
            return connection.getresponse().status

    return ask


def over_grpc(channel):
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

    def ask(timeout_us):
        tensors = [{**tensor, "contents": {"fp32_contents": [1.0]}} for tensor in FLOWER]
        said = {} if timeout_us is None else {"parameters": {"timeout": {"int64_param": timeout_us}}}
        message = {"model_name": "flowers", "inputs": tensors, **said}
        try:
            call(schema().encode("inference.ModelInferRequest", message), timeout=60)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    return ask


PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from modelmill.registry.registry import Registry
from modelmill.serve.server import run
from modelmill.store.home import Home

home = Home(Path({home!r}))
run(Registry(home.database, home.blobs), ["flowers"], port=0, ready=lambda url: print(url, flush=True))
heavy = sorted(set(sys.modules) & {{"torch", "sklearn", "onnx", "optuna", "jinja2"}})
print("ended", heavy, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_sigterm_ends_the_process_in_order_and_nothing_heavy_was_imported(registry, home):
    program = textwrap.dedent(PROGRAM).format(tests=os.path.dirname(__file__), home=str(home))  # noqa: PTH120
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().strip()
        assert label(Client(url)) == "long"
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert rest.strip() == "ended []"
    assert process.returncode == 0
