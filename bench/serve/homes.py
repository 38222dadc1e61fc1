"""Homes with models of random weights, services over them as people start them, and what their processes take."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
from models import Graph, resnet
from onnx import TensorProto, helper

from modelmill.registry.registry import Registry
from modelmill.signature import Field, Signature
from modelmill.store.home import Home

Row = dict[str, Any]
ROOT = Path(__file__).parents[2]


def file(g: Graph, shape: tuple[int, ...], y: str, width: int) -> tuple[bytes, Signature]:
    """The ONNX file of a graph from `x` to `y`, and its signature."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", *shape])
    g.nodes[-1].output[0] = "y"
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", width])
    model = helper.make_model(
        helper.make_graph(g.nodes, "g", [x], [out], g.weights),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    fields = (Field("x", "FP32", (-1, *shape), "array"),), (Field("y", "FP32", (-1, width)),)
    return model.SerializeToString(), Signature("compute", *fields)


def mlp(seed: int, width: int, layers: int) -> tuple[bytes, Signature]:
    """`layers` matrices of width x width: 100 MB with 24 of 1024, 16 MB with 16 of 512."""
    g, x = Graph(seed), "x"
    for _ in range(layers):
        x = g.op("Relu", [g.dense(x, width, width)])
    return file(g, (width,), x, width)


def cnn(seed: int) -> tuple[bytes, Signature]:
    """A ResNet-101 without norms: 178 MB."""
    g = Graph(seed)
    return file(g, (3, 224, 224), resnet(g, 3, 4, 23, 3), 1000)


def publish(home: Path, name: str, made: tuple[bytes, Signature]) -> None:
    """A model in a home, unless it is there."""
    place = Home(home)
    registry = Registry(place.database, place.blobs)
    if name not in registry.names():
        registry.publish(name, {"model.onnx": made[0]}, made[1])
    place.database.close()


@contextlib.contextmanager
def serving(home: Path, *arguments: str) -> Iterator[tuple[psutil.Process, str, float]]:
    """A service: its process, HOST:PORT, and when it was started."""
    environment = {
        **{key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"},
        "PYTHONPATH": str(ROOT),
        "PYTHONPYCACHEPREFIX": str(home / "bytecode"),
        "MODELMILL_HOME": str(home),
    }
    command = [sys.executable, "-c", "from modelmill.cli import main; main()", "serve", "--port", "0"]
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--no-grpc", "--lead", "0", *arguments], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        said = ""
        while not (found := re.search(r"http://(\S+)", said)):
            said = process.stderr.readline()
            if not said:
                raise SystemExit("the service ended")
        yield psutil.Process(process.pid), found[1], started
    finally:
        process.terminate()
        process.communicate(timeout=120)


class Asker:
    """One connection; asks one model after the other with raw tensors."""

    def __init__(self, address: str) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(f"//{address}").netloc, timeout=120)

    def ask(self, name: str, x: np.ndarray) -> tuple[int, float]:
        """The status, and milliseconds."""
        tensor = {
            "name": "x",
            "shape": x.shape,
            "datatype": "FP32",
            "parameters": {"binary_data_size": x.nbytes},
        }
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
        began = time.perf_counter()
        self.connection.request("POST", f"/v2/models/{name}/infer", head + x.tobytes(), headers)
        answer = self.connection.getresponse()
        answer.read()
        return answer.status, (time.perf_counter() - began) * 1000

    def states(self) -> dict[str, str]:
        """Name: state."""
        self.connection.request("POST", "/v2/repository/index")
        return {at["name"]: at["state"] for at in json.loads(self.connection.getresponse().read())}


def memory(process: psutil.Process) -> Row:
    """Megabytes of a process and its children; shared pages count once in `pss_mb`."""
    tree = [process, *process.children(recursive=True)]
    full = [at.memory_full_info() for at in tree]
    return {
        "rss_mb": round(sum(at.rss for at in full) / 1e6, 1),
        "pss_mb": round(sum(at.pss for at in full) / 1e6, 1),
        "uss_mb": round(sum(at.uss for at in full) / 1e6, 1),
    }


def formed(home: Path, count: int, seconds: float = 900.0) -> None:
    """Wait until so many forms are in the home's cache."""
    end = time.monotonic() + seconds
    while len(list((home / "cache").glob("*/manifest.json"))) < count:
        if time.monotonic() > end:
            raise SystemExit("no form was made")
        time.sleep(0.1)


def rows(path: Path) -> list[Row]:
    """The rows that are there already."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(path: Path, row: Row, shown: str = "") -> None:
    """Add a row, with how busy the machine was, and print it; or what is shown of it."""
    path.parent.mkdir(exist_ok=True)
    load = [round(value, 1) for value in os.getloadavg()[:1]]
    with path.open("a") as out:
        out.write(json.dumps({**row, "load": load[0]}) + "\n")
    print(shown or row, flush=True)
