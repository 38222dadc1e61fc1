"""Requests and those who send them: wrk over HTTP and h2load over gRPC, in a closed loop; and what they saw."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import models
import numpy as np
import psutil
from servers import At

from modelmill.protocol.schema import schema

WIRES = {"json": "wrk", "binary": "wrk", "grpc": "h2load"}
"""How requests are sent, and the program that sends them."""
PACKAGES = {"wrk": "wrk", "h2load": "nghttp2-client"}
"""Debian's names of them."""
CALL = "/inference.GRPCInferenceService/ModelInfer"
OWN_FORMS = {"bentoml": '{"x": %s}', "bentoml-batch": '{"x": %s}', "mlflow": '{"inputs": {"x": %s}}'}
"""The documents around rows of servers that have one of their own."""
STREAMS = 8
"""The most streams of a connection over gRPC: so many callers share one."""
START_S = 120.0
REST = 0.05
"""Processor seconds in half a second: who takes less is at rest."""

SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = os.getenv("LENGTH") and "application/octet-stream" or "application/json"
if os.getenv("KEY") then wrk.headers["Authorization"] = "Bearer " .. os.getenv("KEY") end
if os.getenv("LENGTH") then wrk.headers["Inference-Header-Content-Length"] = os.getenv("LENGTH") end
local file = io.open(os.getenv("BODY"), "rb")
wrk.body = file:read("*all")
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format('{"requests": %d, "micros": %d, "p50_ms": %g, "p99_ms": %g, "errors": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""

Row = dict[str, Any]


def check(wires: list[str]) -> None:
    """End where a program is missing."""
    for wire in wires:
        if shutil.which(WIRES[wire]) is None:
            raise SystemExit(f"{WIRES[wire]} is missing; Debian's package {PACKAGES[WIRES[wire]]} has it")


def body_of(name: str, wire: str, server: str = "modelmill") -> tuple[bytes, int | None]:
    """The request, as every one of them is sent; and the length of its JSON part where bytes follow."""
    x = models.sample(name)
    if server in OWN_FORMS:
        return (OWN_FORMS[server] % json.dumps(x.tolist())).encode(), None
    tensor: Row = {"name": "x", "shape": list(x.shape), "datatype": "FP32"}
    if wire == "grpc":
        message = schema().encode(
            "inference.ModelInferRequest", {"model_name": "m", "inputs": [tensor], "raw_input_contents": [x.tobytes()]}
        )
        return b"\0" + len(message).to_bytes(4, "big") + message, None
    if wire == "json":
        return json.dumps({"inputs": [{**tensor, "data": x.ravel().tolist()}]}).encode(), None
    tensor["parameters"] = {"binary_data_size": x.nbytes}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + x.tobytes(), len(head)


def answered(at: At, model: str, wire: str = "json") -> np.ndarray:
    """The output of one request, over gRPC or in JSON; waits for the server to answer at all."""
    ends = time.monotonic() + START_S
    while True:
        try:
            return _over_grpc(at, model) if wire == "grpc" else _over_http(at, model)
        except (urllib.error.URLError, ConnectionError, TimeoutError, grpc.RpcError) as error:
            if time.monotonic() > ends:
                raise SystemExit(f"{at.url} does not answer: {error}") from None
            time.sleep(0.1)


def _over_http(at: At, model: str) -> np.ndarray:
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {at.key}"} if at.key else {})}
    request = urllib.request.Request(at.url, body_of(model, "json", at.server)[0], headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        document = json.load(answer)
    if "outputs" in document:
        document = document["outputs"][0]["data"]
    elif "predictions" in document:
        document = document["predictions"]["y"]
    return np.array(document, np.float32).ravel()


def _over_grpc(at: At, model: str) -> np.ndarray:
    metadata = [("authorization", f"Bearer {at.key}")] if at.key else []
    with grpc.insecure_channel(at.grpc) as channel:
        call = channel.unary_unary(CALL)
        found = schema().decode(
            "inference.ModelInferResponse", call(body_of(model, "grpc")[0][5:], timeout=30, metadata=metadata)
        )
    if found.get("raw_output_contents"):
        return np.frombuffer(found["raw_output_contents"][0], np.float32)
    return np.asarray(found["outputs"][0]["contents"]["fp32_contents"], np.float32)


def cpu_s(process: psutil.Process) -> float:
    """User and system seconds of a process and all below it."""
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def settled(process: psutil.Process, seconds: float = 30.0) -> None:
    """Wait until a server and all below it have come to rest: what it still makes or learns would be timed as well."""
    ends = time.monotonic() + seconds
    before = cpu_s(process)
    while time.monotonic() < ends:
        time.sleep(0.5)
        now = cpu_s(process)
        if now - before < REST:
            return
        before = now


def loaded(at: At, wire: str, body: Path, length: int | None, connections: int, seconds: float) -> Row:
    """What came of so many callers that each ask again as soon as they are answered."""
    if wire == "grpc":
        return _streamed(at, body, connections, seconds)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT)
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", "-s", script.name, at.url]
        told = {"BODY": str(body), "KEY": at.key, "LENGTH": "" if length is None else str(length)}
        env = {**os.environ, **{name: value for name, value in told.items() if value}}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    found = re.search(r"^\{.*\}$", done.stdout, re.MULTILINE)
    assert found, done.stdout
    row: Row = json.loads(found[0])
    return row


def _streamed(at: At, body: Path, streams: int, seconds: float) -> Row:
    """The same over gRPC, STREAMS callers on a connection. h2load looks at the status of HTTP, not of gRPC."""
    each = min(streams, STREAMS)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = ["h2load", "-t1", f"-c{streams // each}", f"-m{each}", f"-D{seconds:g}", "-d", str(body)]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers", f"--log-file={log}"]
        command += ["-H", f"authorization: Bearer {at.key}"] if at.key else []
        done = subprocess.run([*command, f"http://{at.grpc}{CALL}"], capture_output=True, text=True, check=True)
        seen = np.loadtxt(log, np.int64, ndmin=2)
    assert len(seen), done.stdout
    p50, p99 = np.quantile(seen[:, 2], [0.5, 0.99]) / 1000
    errors = int((seen[:, 1] != 200).sum())
    micros = int(seen[:, 0].max() + seen[-1, 2] - seen[:, 0].min())
    return {"requests": len(seen), "micros": micros, "p50_ms": float(p50), "p99_ms": float(p99), "errors": errors}
