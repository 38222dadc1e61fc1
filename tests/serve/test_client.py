"""The client gives what the local predict gives."""

from __future__ import annotations

import json
import threading
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest
from patience import eventually

from modelmill.client import Client
from modelmill.errors import NotServed, RequestError, WorkError
from modelmill.runtime.rows import to_columns
from modelmill.runtime.session import Session
from modelmill.serve.server import Limits, Service
from modelmill.serve.web import app, express, wire


@pytest.fixture(scope="module")
def client(service):
    with Client(service.url) as client:
        yield client


def same(got, wanted):
    assert set(got) == set(wanted)
    for name, array in wanted.items():
        assert got[name].dtype == array.dtype
        assert got[name].tolist() == array.tolist()


def test_rows_over_http_are_the_local_outputs_to_the_bit(client, registry):
    version = registry.find("flowers")
    rows = [{"length": 3, "width": 1.7}, [0.1, 2]]
    local = Session(registry.file(version, "model.onnx")).run(to_columns(rows, version.signature))
    same(client.predict("flowers", rows), local)
    columns = {"length": [3, 0.1], "width": [1.7, 2]}
    same(client.infer("flowers", columns), local)
    same(client.infer("flowers", columns, binary=False), local)
    same(client.predict("flowers", columns), local)
    same(client.predict("flowers", np.array([[3, 1.7], [0.1, 2]])), local)


def test_an_array_of_pictures_goes_in_one_tensor(client):
    pixels = np.zeros((2, 8, 8))
    pixels[0, :4] = pixels[1, 4:] = 16
    assert client.predict("pictures", pixels)["label"].tolist() == [0, 1]
    assert client.predict("pictures", pixels)["label"].dtype == np.int64
    assert client.predict("pictures", [{"image": picture} for picture in pixels])["label"].tolist() == [0, 1]


def test_only_wanted_outputs_come(client):
    assert list(client.infer("flowers", {"length": [1], "width": [2]}, outputs=["label"])) == ["label"]


def test_a_missing_number_is_nan_or_none(client):
    for row in ([float("nan"), 1], [None, 1], [np.float32("nan"), 1]):
        assert client.predict("flowers", [row])["label"].shape == (1,)
    with pytest.raises(RequestError, match="width"):
        client.predict("flowers", [[1, None]])


def test_refusals_are_the_errors_of_the_tree(client):
    with pytest.raises(NotServed, match="Did you mean flowers"):
        client.predict("flower", [[1, 2]])
    with pytest.raises(RequestError, match="no input 'depth'"):
        client.infer("flowers", {"length": [1], "depth": [2]})
    with pytest.raises(WorkError, match="Is `modelmill serve` running"):
        Client("http://127.0.0.1:9").models()
    with pytest.raises(RequestError, match="is not the URL"):
        Client("ftp://127.0.0.1")


def test_metadata_and_models_are_listed(client):
    assert client.metadata("flowers")["inputs"][0] == {"name": "length", "datatype": "FP32", "shape": [-1]}
    assert [model["name"] for model in client.models()] == ["flowers", "mixed", "pictures"]
    assert client.ready()


def test_a_connection_that_was_closed_is_opened_anew(service):
    client = Client(service.url)
    client.models()
    client._local.connection.sock.shutdown(2)
    assert len(client.models()) == 3
    client.close()


def test_a_client_follows_a_version_that_takes_and_gives_other_types(empty_registry, publish_passing):
    publish_passing(empty_registry, "FP32")
    with Service(empty_registry, limits=Limits(watch_seconds=0.02)) as service, Client(service.url) as client:
        assert client.infer("passing", {"x": [1.0]})["y"].dtype == np.float32
        assert client.predict("passing", [[1]])["y"].dtype == np.float32
        publish_passing(empty_registry, "INT64")
        eventually(lambda: client.models()[0]["version"] == 2)
        assert client.infer("passing", {"x": [1]})["y"].dtype == np.int64
        assert client.predict("passing", [[1]])["y"].dtype == np.int64


def test_an_output_of_one_element_a_row_is_bare_in_plain_json_and_keeps_its_shape_elsewhere(
    empty_registry, publish_passing
):
    publish_passing(empty_registry, "FP32", shape=(-1, 1))
    with Service(empty_registry) as service, Client(service.url) as client:
        asked = urllib.request.Request(f"{service.url}/predict/passing", json.dumps([[3], {"x": [4.5]}]).encode())
        with urllib.request.urlopen(asked) as answer:
            assert json.load(answer)["predictions"] == [{"y": 3.0}, {"y": 4.5}]
        for binary in (True, False):
            assert client.infer("passing", {"x": [[3], [4.5]]}, binary=binary)["y"].tolist() == [[3], [4.5]]
        assert client.predict("passing", [[3], [4.5]])["y"].tolist() == [[3], [4.5]]


@pytest.mark.parametrize("binary", [False, True])
def test_what_is_long_to_read_leaves_the_loop_free_and_text_is_as_bytes_too(client, monkeypatch, binary):
    threads = []

    def watched(*given):
        threads.append(threading.current_thread())
        return wire.read(*given)

    seen = SimpleNamespace(**{**vars(wire), "read": watched})
    for way in (app, express):  # a small request takes the short way where the model was found to be quick
        monkeypatch.setattr(way, "wire", seen)
    numbers = {"length": np.ones(20_000), "width": np.zeros(20_000)}
    assert client.infer("flowers", numbers, binary=binary)["label"].tolist() == ["long"] * 20_000
    assert client.infer("flowers", {"length": [1], "width": [2]}, binary=binary)["label"].tolist() == ["wide"]
    rows = 5_000
    text = {"name": ["a text of some length"] * rows, "code": ["b"] * rows, "count": np.arange(rows)}
    text |= {"flag": np.ones(rows, bool), "day": np.arange(rows), "small": np.ones((rows, 2, 2), np.uint8)}
    text |= {"vector": np.ones((rows, 3))}
    found = client.infer("mixed", text, binary=binary)
    assert found["name_out"].tolist() == text["name"]
    long_numbers, loop, *_, long_text = threads
    assert long_text is not loop
    assert (long_numbers is loop) == binary
