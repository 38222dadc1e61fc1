"""Outside clients get the answers of the local `predict`: tritonclient in its own environment, and plain JSON."""

import json
import subprocess
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import modelmill
from modelmill.api import registry
from modelmill.serve.server import Service

CLIENTS = Path(__file__).parents[1] / ".venv-clients" / "bin" / "python"

TRITON = """
import json, sys
import numpy as np
import tritonclient.http as triton
url, rows = sys.argv[1], json.loads(sys.argv[2])
client = triton.InferenceServerClient(url)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("iris")
assert client.get_server_metadata()["name"] == "modelmill"
metadata = client.get_model_metadata("iris")
answers = {}
for binary in (False, True):
    inputs = []
    for i, field in enumerate(metadata["inputs"]):
        values = np.array([row[i] for row in rows], np.float32)
        shape = [len(rows) if size == -1 else size for size in field["shape"]]
        tensor = triton.InferInput(field["name"], shape, field["datatype"])
        tensor.set_data_from_numpy(values.reshape(shape), binary_data=binary)
        inputs.append(tensor)
    wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("label", "probabilities")]
    result = client.infer("iris", inputs, outputs=wanted, request_id="seven")
    assert result.get_response()["id"] == "seven"
    labels = result.as_numpy("label").tolist()
    answers["binary" if binary else "json"] = {
        "label": [x.decode() if isinstance(x, bytes) else x for x in labels],
        "probabilities": result.as_numpy("probabilities").tolist(),
    }
    for way in ("gzip", "deflate"):
        packed = client.infer(
            "iris", inputs, outputs=wanted, request_compression_algorithm=way, response_compression_algorithm=way
        )
        assert packed.as_numpy("label").tolist() == labels
        assert packed.as_numpy("probabilities").tolist() == result.as_numpy("probabilities").tolist()
try:
    client.infer("irsi", inputs)
except triton.InferenceServerException as error:
    answers["refused"] = str(error)
print(json.dumps(answers))
"""


@pytest.fixture
def rows():
    from sklearn.datasets import load_iris

    return load_iris().data[::7].astype(np.float32).tolist()


@pytest.fixture
def service(in_built):
    with Service(registry()) as running:
        yield running


def test_tritonclient_gets_the_local_answers_in_json_and_binary(service, rows):
    if not CLIENTS.exists():
        pytest.skip("tritonclient has an environment of its own, which is not there: make clients")
    done = subprocess.run(
        [CLIENTS, "-c", TRITON, service.url.removeprefix("http://"), json.dumps(rows)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    local = modelmill.load("iris").predict(rows)
    for wire in ("json", "binary"):
        assert answers[wire]["label"] == local["label"].tolist()
        assert np.abs(np.array(answers[wire]["probabilities"]) - local["probabilities"]).max() < 1e-5
    assert "irsi" in answers["refused"]


TRITON_GRPC = """
import json, queue, sys
import numpy as np
import tritonclient.grpc as triton
url, rows = sys.argv[1], json.loads(sys.argv[2])
client = triton.InferenceServerClient(url)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("iris")
assert client.get_server_metadata().name == "modelmill"
metadata = client.get_model_metadata("iris")
config = client.get_model_config("iris").config
assert [tensor.name for tensor in config.input] == [tensor.name for tensor in metadata.inputs]
inputs = []
for i, field in enumerate(metadata.inputs):
    values = np.array([row[i] for row in rows], np.float32)
    shape = [len(rows) if size == -1 else size for size in field.shape]
    tensor = triton.InferInput(field.name, shape, field.datatype)
    tensor.set_data_from_numpy(values.reshape(shape))
    inputs.append(tensor)
def told(result):
    labels = result.as_numpy("label").tolist()
    return {
        "label": [x.decode() if isinstance(x, bytes) else x for x in labels],
        "probabilities": result.as_numpy("probabilities").tolist(),
    }
answers = {"call": told(client.infer("iris", inputs, request_id="seven", client_timeout=60))}
answers["packed"] = told(client.infer("iris", inputs, compression_algorithm="gzip"))
streamed = queue.Queue()
client.start_stream(lambda result, error: streamed.put((result, error)))
client.async_stream_infer("iris", inputs, request_id="seven", priority=1, timeout=60_000_000)
client.async_stream_infer("irsi", inputs)
result, error = streamed.get(timeout=60)
assert error is None and result.get_response().id == "seven"
answers["stream"] = told(result)
answers["stream_refused"] = str(streamed.get(timeout=60)[1])
client.stop_stream()
best = client.infer("iris", inputs, outputs=[triton.InferRequestedOutput("probabilities", class_count=1)])
answers["classes"] = [row[0].decode() for row in best.as_numpy("probabilities").tolist()]
client.unload_model("iris")
assert not client.is_model_ready("iris")
assert client.get_model_repository_index().models[0].state == "UNAVAILABLE"
client.load_model("iris")
stats = client.get_inference_statistics("iris").model_stats[0]
answers["counted"] = [stats.inference_stats.success.count, stats.inference_count]
try:
    client.infer("irsi", inputs)
except triton.InferenceServerException as error:
    answers["refused"] = f"{error.status()} {error.message()}"
print(json.dumps(answers))
"""


def test_tritonclient_gets_the_local_answers_over_grpc(in_built, rows):
    if not CLIENTS.exists():
        pytest.skip("tritonclient has an environment of its own, which is not there: make clients")
    with Service(registry(), grpc_port=0) as service:
        done = subprocess.run(
            [CLIENTS, "-c", TRITON_GRPC, service.grpc_url, json.dumps(rows)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    local = modelmill.load("iris").predict(rows)
    for way in ("call", "packed", "stream"):
        assert answers[way]["label"] == local["label"].tolist()
        assert np.abs(np.array(answers[way]["probabilities"]) - local["probabilities"]).max() < 1e-5
    assert [text.rpartition(":")[2] for text in answers["classes"]] == [str(label) for label in local["label"]]
    assert answers["counted"] == [4, 4 * len(rows)]
    assert "NOT_FOUND" in answers["refused"]
    assert "irsi" in answers["stream_refused"]


def test_plain_json_gets_the_local_answers(service, rows):
    request = urllib.request.Request(
        f"{service.url}/predict/iris", json.dumps(rows).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = json.load(response)
    model = modelmill.load("iris")
    local = model.predict(rows)
    assert (answer["model"], answer["version"]) == ("iris", 1)
    assert [p["label"] for p in answer["predictions"]] == local["label"].tolist()
    classes = model.version.signature.classes
    found = np.array([[p["probabilities"][str(name)] for name in classes] for p in answer["predictions"]])
    assert np.abs(found - local["probabilities"]).max() < 1e-5


def test_our_client_gets_the_local_answers(service, rows):
    answers = modelmill.Client(service.url).predict("iris", rows)
    local = modelmill.load("iris").predict(rows)
    assert answers["label"].tolist() == local["label"].tolist()
    assert np.abs(answers["probabilities"] - local["probabilities"]).max() < 1e-5


def test_a_newly_promoted_version_is_served_without_a_restart(home):
    import time

    modelmill.build("iris", budget="1 trials", settings={"workers": 1})
    with Service(registry()) as service:
        client = modelmill.Client(service.url)
        row = [[5.1, 3.5, 1.4, 0.2]]
        assert client.metadata("iris")["versions"] == ["1"]
        modelmill.build("iris", budget="2 trials", seed=1, settings={"workers": 1, "promote": True})
        until = time.monotonic() + 30
        while time.monotonic() < until and served(service.url, row) != 2:
            time.sleep(0.1)
        assert served(service.url, row) == 2


def served(url, row):
    request = urllib.request.Request(
        f"{url}/predict/iris", json.dumps(row).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)["version"]
