"""A registry with small models of every kind of input, and a service over it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from wires import Wire

from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.registry.registry import Registry
from modelmill.serve.engine import lane
from modelmill.serve.server import Service
from modelmill.serve.web.express import Express
from modelmill.signature import Field, Signature
from modelmill.store.home import Home


def classifier(fields, names, weights, flat):
    """An ONNX file: softmax of features times weights; and its outputs."""
    writer = Writer()
    features = flat(writer)
    scores = writer.op("MatMul", [features, writer.constant(np.asarray(weights, np.float32))])
    probabilities = writer.op("Softmax", [scores], {"axis": 1})
    best = writer.op("ArgMax", [probabilities], {"axis": 1, "keepdims": 0})
    dtype = object if isinstance(names[0], str) else np.int64
    writer.rename(writer.op("Gather", [writer.constant(np.array(names, dtype)), best]), "label")
    writer.rename(probabilities, "probabilities")
    datatype = "BYTES" if isinstance(names[0], str) else "INT64"
    outputs = (Field("label", datatype), Field("probabilities", "FP32", (-1, len(names))))
    return to_onnx(writer.fragment(), fields, outputs), outputs


def flowers(sign=1):
    """Two columns, string labels: `long` where length is above width."""
    fields = (Field("length", "FP32", nullable=True), Field("width", "FP32"))

    def flat(writer):
        axis = writer.constant(np.array([1], np.int64))
        parts = [writer.op("Unsqueeze", [f.name, axis]) for f in fields]
        return writer.op("Concat", parts, {"axis": 1})

    onnx, outputs = classifier(fields, ("long", "wide"), [[sign, -sign], [-sign, sign]], flat)
    return onnx, Signature("classify", fields, outputs, ("long", "wide"), "shape", (2.0, 1.0))


def pictures():
    """An image of 8 x 8, integer labels: whether the upper half is brighter (0) or the lower (1)."""
    fields = (Field("image", "FP32", (-1, 8, 8), "image"),)
    weights = np.zeros((64, 2), np.float32)
    weights[:32, 0] = weights[32:, 1] = 0.01

    def flat(writer):
        return writer.op("Flatten", ["image"], {"axis": 1})

    onnx, outputs = classifier(fields, (0, 1), weights, flat)
    example = np.zeros((8, 8))
    example[:3] = 16
    return onnx, Signature("classify", fields, outputs, (0, 1), "digit", (example.tolist(),))


def mixed():
    """Every kind of input, each passed through: what went in comes out."""
    fields = (
        Field("name", "BYTES", (-1,), "category", nullable=True),
        Field("code", "BYTES", (-1,), "category"),
        Field("count", "INT64"),
        Field("flag", "BOOL", (-1,), "boolean"),
        Field("day", "INT64", (-1,), "date", nullable=True),
        Field("small", "UINT8", (-1, 2, 2), "array"),
        Field("vector", "FP32", (-1, 3), "array", nullable=True),
    )
    writer = Writer()
    for field in fields:
        writer.rename(field.name, f"{field.name}_out")
    outputs = tuple(Field(f"{f.name}_out", f.datatype, f.shape, f.kind) for f in fields)
    return to_onnx(writer.fragment(), fields, outputs), Signature("echo", fields, outputs)


def publish(registry: Registry, name: str, made, promote=None):
    onnx, signature = made
    page = f"<!doctype html><title>{name}</title><p>report of {name}".encode()
    return registry.publish(name, {"model.onnx": onnx, "report.html": page}, signature, promote=promote)


@pytest.fixture(scope="session")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def registry(home) -> Registry:
    place = Home(home)
    registry = Registry(place.database, place.blobs)
    publish(registry, "flowers", flowers())
    publish(registry, "flowers", flowers(-1))
    publish(registry, "pictures", pictures())
    publish(registry, "mixed", mixed())
    return registry


@pytest.fixture
def quick(monkeypatch):
    """What is as small as the models here runs on the loop, however busy the machine is on which tests run."""
    monkeypatch.setattr(lane, "INLINE_MS", 50.0)


@pytest.fixture(scope="session")
def service(registry):
    running = Service(registry)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lane, "INLINE_MS", 50.0)  # as `quick`, while its models are timed
        service = running.__enter__()
    yield service
    running.close()


@pytest.fixture
def empty_registry(tmp_path) -> Registry:
    place = Home(tmp_path)
    return Registry(place.database, place.blobs)


@pytest.fixture
def publish_flowers():
    """Publishes a version of a model of two columns: `sign` -1 answers the other way round."""

    def call(registry, name="flowers", sign=1, promote=None):
        return publish(registry, name, flowers(sign), promote)

    return call


@pytest.fixture
def publish_passing():
    """Publishes a version of a model that gives back its one column, of the datatype `datatype`."""

    def call(registry, datatype, name="passing", shape=(-1,)):
        fields, outputs = (Field("x", datatype, shape),), (Field("y", datatype, shape),)
        writer = Writer()
        writer.rename("x", "y")
        onnx = to_onnx(writer.fragment(), fields, outputs)
        return publish(registry, name, (onnx, Signature("echo", fields, outputs)), promote=True)

    return call


@pytest.fixture
def flowers_signature() -> Signature:
    return flowers()[1]


@pytest.fixture
def shorts(monkeypatch):
    """Whether each request that tried the short way was answered on it."""
    found = []
    answer = Express.answer

    def watched(self, *given):
        said = answer(self, *given)
        found.append(said is not None)
        return said

    monkeypatch.setattr(Express, "answer", watched)
    return found


@pytest.fixture
def wire(service):
    """A connection to the service, read answer by answer."""
    wire = Wire(service.url)
    yield wire
    wire.file.close()
    wire.socket.close()
