"""A mixed load at a fixed rate, as a process of its own: every request is right, and every answer is looked at.

    python mixed.py PORT GRPC_PORT KEY RATE SECONDS PARTS

Requests go out at random times (Poisson), whether or not answers come: a tiny model in JSON, the small one as bytes, a
row to /predict, the tiny model over gRPC, and three rows of it on a stream. Of the requests over HTTP nine in ten use
connections that are kept. A request fails if its answer is not the right one; nothing is sent twice. For each part of
the time a line is printed: how long requests took since they were due, as counts by `round(100 ln ms)`, what failed,
and how late the load itself was.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import models
import numpy as np
import onnxruntime
from changes import LABELS
from kept import Kept, post
from load import CALL, body_of

from modelmill.protocol.schema import schema

STREAM = CALL.replace("ModelInfer", "ModelStreamInfer")
ON_A_STREAM = 3
KINDS = ("json", "binary", "predict", "grpc", "stream")
PATIENCE_S = 60.0


class Wrong(Exception):
    """An answer came, and it is not the right one."""


def wanted(model: str) -> np.ndarray:
    """What ONNX Runtime answers."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        models.write(model, path)
        found: np.ndarray = onnxruntime.InferenceSession(str(path)).run(["y"], {"x": models.sample(model)})[0]
        return found.ravel()


def same(found: object, right: np.ndarray) -> None:
    if not np.allclose(np.asarray(found, np.float32).ravel(), right, atol=1e-4):
        raise Wrong("another answer")


class Load:
    """Requests without pause, and what came of them in the present part."""

    def __init__(self, port: int, grpc_port: int, key: str, rate: float) -> None:
        self.rate = rate
        self.connections = Kept(port)
        self.bearer = f"Authorization: Bearer {key}"
        self.metadata = (("authorization", f"Bearer {key}"),)
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}")
        self.unary, self.stream = channel.unary_unary(CALL), channel.stream_stream(STREAM)
        self.right = {name: wanted(name) for name in ("tiny", "small")}
        self.json, (self.binary, length) = body_of("tiny", "json")[0], body_of("small", "binary")
        self.length = f"Inference-Header-Content-Length: {length}"
        self.message = body_of("tiny", "grpc")[0][5:]
        self.random = random.Random(1)
        self.times: dict[str, Counter[int]] = {kind: Counter() for kind in KINDS}
        self.failed: Counter[str] = Counter()
        self.lags: list[float] = []
        self.count = 0

    async def run(self, seconds: float, parts: int) -> None:
        """Send for so long, and print a line for each part."""
        begin = due = time.monotonic()
        tasks = set[asyncio.Task[None]]()
        for part in range(parts):
            while due < begin + seconds * (part + 1) / parts:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                self.lags.append(1000 * (time.monotonic() - due))
                task = asyncio.create_task(self.one(self.random.choice(KINDS), due))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                due += self.random.expovariate(self.rate)
            if part == parts - 1:
                await asyncio.gather(*tasks)
            self.tell()

    def tell(self) -> None:
        """Print what the part has seen, and begin the next."""
        lag_ms = round(float(np.quantile(self.lags, 0.99)), 2) if self.lags else 0.0
        print(json.dumps({"times": self.times, "failed": self.failed, "lag_p99_ms": lag_ms}), flush=True)
        self.times = {kind: Counter() for kind in KINDS}
        self.failed, self.lags = Counter(), []

    async def one(self, kind: str, due: float) -> None:
        """One request, and how long it took."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await getattr(self, f"ask_{kind}")()
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError, KeyError, Wrong) as error:
            self.failed[f"{kind}: {type(error).__name__}: {error}"[:160]] += 1
        except grpc.aio.AioRpcError as error:
            self.failed[f"{kind}: {error.code().name} {error.details()}"[:160]] += 1
        else:
            took_ms = 1000 * (time.monotonic() - due)
            self.times[kind][round(100 * math.log(max(took_ms, 1e-3)))] += 1

    async def over_http(self, path: str, body: bytes, *headers: str) -> tuple[dict[str, str], bytes]:
        """Headers and body of an answer that is 200."""
        keep = self.random.random() < 0.9
        self.count += 1
        more = (*headers, f"X-Request-Id: {self.count}", *(() if keep else ("Connection: close",)))
        status, found, answer = await self.connections.ask(post(path, body, self.bearer, *more), keep)
        if status != 200:
            raise Wrong(f"{status} {answer[:80]!r}")
        return found, answer

    async def ask_json(self) -> None:
        _, answer = await self.over_http("/v2/models/m/infer", self.json)
        same(json.loads(answer)["outputs"][0]["data"], self.right["tiny"])

    async def ask_binary(self) -> None:
        headers, answer = await self.over_http("/v2/models/small/infer", self.binary, self.length)
        raw = answer[int(headers["inference-header-content-length"]) :]
        same(np.frombuffer(raw, np.float32), self.right["small"])

    async def ask_predict(self) -> None:
        headers, answer = await self.over_http("/predict/flowers", b"[[3, 1]]")
        version = headers["modelmill-version"]
        if LABELS.get(version, "?").encode() not in answer:
            raise Wrong(f"{version} {answer[:80]!r}")

    async def ask_grpc(self) -> None:
        answer = schema().decode(
            "inference.ModelInferResponse", await self.unary(self.message, metadata=self.metadata, timeout=PATIENCE_S)
        )
        same(np.frombuffer(answer["raw_output_contents"][0], np.float32), self.right["tiny"])

    async def ask_stream(self) -> None:
        call = self.stream(iter([self.message] * ON_A_STREAM), metadata=self.metadata, timeout=PATIENCE_S)
        came = 0
        async for each in call:
            answer = schema().decode("inference.ModelStreamInferResponse", each)
            if answer.get("error_message"):
                raise Wrong(answer["error_message"])
            same(np.frombuffer(answer["infer_response"]["raw_output_contents"][0], np.float32), self.right["tiny"])
            came += 1
        if came != ON_A_STREAM:
            raise Wrong(f"{came} answers on the stream")


async def main() -> None:
    port, grpc_port, key, rate, seconds, parts = sys.argv[1:]
    await Load(int(port), int(grpc_port), key, float(rate)).run(float(seconds), int(parts))


if __name__ == "__main__":
    asyncio.run(main())
