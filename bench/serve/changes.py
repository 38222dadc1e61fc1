"""Requests that fail while servers are restarted and versions promoted, under 500 requests a second.

    python bench/serve/changes.py [--quick] [--rate 500] [--show]

A home has two versions of a small model that answer the other way round. `modelmill serve --reuse-port` is a process of
its own, and so is the load: requests at random times (Poisson), 500 a second, whether or not answers come; half of them
to /predict and half over the Open Inference Protocol; nine in ten on connections that are kept until they were not used
for 5 s, the tenth on one of its own. A restart starts a second server on the port, waits until it says that it serves,
and ends the first by SIGTERM. Meanwhile `live` moves from one version to the other.

A request fails if it is not answered by 200, if its connection breaks after it was sent, or if its answer is not that
of the version that the header `modelmill-version` names. Nothing is sent twice. A line of `results/changes.jsonl` is a
part of 2 restarts and 5 promotions; ten of them make the whole, and one that is there is not run again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from kept import Kept, post

RESULTS = Path(__file__).parent / "results" / "changes.jsonl"
ROOT = Path(__file__).parents[2]
LABELS = {"flowers@1": "long", "flowers@2": "wide"}
PARTS = 10
RESTARTS = 2
PROMOTIONS = 5

Row = dict[str, Any]


def publish(home: Path) -> Any:
    """Two versions of a model of two columns, which answer the other way round."""
    import numpy as np

    from modelmill.fragment import Writer
    from modelmill.graph.build import to_onnx
    from modelmill.registry.registry import Registry
    from modelmill.signature import Field, Signature
    from modelmill.store.home import Home

    place = Home(home)
    registry = Registry(place.database, place.blobs)
    fields = (Field("length", "FP32"), Field("width", "FP32"))
    outputs = (Field("label", "BYTES"), Field("probabilities", "FP32", (-1, 2)))
    for sign in (1, -1):
        writer = Writer()
        axis = writer.constant(np.array([1], np.int64))
        columns = writer.op("Concat", [writer.op("Unsqueeze", [f.name, axis]) for f in fields], {"axis": 1})
        weights = writer.constant(np.array([[sign, -sign], [-sign, sign]], np.float32))
        chances = writer.op("Softmax", [writer.op("MatMul", [columns, weights])], {"axis": 1})
        best = writer.op("ArgMax", [chances], {"axis": 1, "keepdims": 0})
        names = writer.constant(np.array(["long", "wide"], object))
        writer.rename(writer.op("Gather", [names, best]), "label")
        writer.rename(chances, "probabilities")
        onnx = to_onnx(writer.fragment(), fields, outputs)
        signature = Signature("classify", fields, outputs, ("long", "wide"), "shape", (2.0, 1.0))
        registry.publish("flowers", {"model.onnx": onnx}, signature)
    return registry


class Load:
    """Requests without pause, and what came of them."""

    def __init__(self, port: int, rate: float) -> None:
        self.rate = rate
        self.connections = Kept(port)
        self.versions: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.random = random.Random(1)

    async def run(self) -> Row:
        """Send until standard input ends."""
        loop = asyncio.get_running_loop()
        ended = loop.run_in_executor(None, sys.stdin.read)
        started, due, tasks = loop.time(), 0.0, set[asyncio.Task[None]]()
        while not ended.done():
            due += self.random.expovariate(self.rate)
            await asyncio.sleep(max(0.0, started + due - loop.time()))
            task = asyncio.create_task(self.one())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
        times = sorted(self.seconds)
        return {
            "requests": sum(self.versions.values()) + sum(self.failed.values()),
            "failed": sum(self.failed.values()),
            "reasons": dict(self.failed),
            "versions": dict(self.versions),
            "rate": self.rate,
            "connections": self.connections.opened,
            "p50_ms": round(times[len(times) // 2] * 1000, 2),
            "p99_ms": round(times[len(times) * 99 // 100] * 1000, 2),
            "most_ms": round(times[-1] * 1000, 1),
            "seconds": round(loop.time() - started, 1),
        }

    async def one(self) -> None:
        """One request on a kept connection, or on one of its own."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(60):
                keep = self.random.random() < 0.9
                status, headers, body = await self.connections.ask(self.request(keep), keep)
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError) as error:
            self.failed[f"{type(error).__name__}: {error}"[:120]] += 1
            return
        version = headers.get("modelmill-version", "")
        if status != 200 or LABELS.get(version, "?").encode() not in body:
            self.failed[f"{status} {version} {body[:80]!r}"] += 1
            return
        self.versions[version] += 1
        self.seconds.append(time.perf_counter() - began)

    def request(self, keep: bool) -> bytes:
        """A request for one row."""
        last = () if keep else ("Connection: close",)
        if self.random.random() < 0.5:
            return post("/predict/flowers", b"[[3, 1]]", *last)
        names = [{"name": n, "datatype": "FP32", "shape": [1], "data": [v]} for n, v in (("length", 3), ("width", 1))]
        body = json.dumps({"inputs": names, "outputs": [{"name": "label"}]}).encode()
        return post("/v2/models/flowers/infer", body, *last)


def serve(home: Path, port: int) -> subprocess.Popen[str]:
    """A server that says it serves."""
    command = [
        sys.executable,
        "-m",
        "modelmill.cli",
        "serve",
        "--port",
        str(port),
        "--no-grpc",
        "--reuse-port",
        "--lead",
        "2",
    ]
    environment = {**os.environ, "MODELMILL_HOME": str(home), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "modelmill serves" in line:
            return process
    raise SystemExit("the server did not start")


def part(number: int, restarts: int, promotions: int, rate: float) -> Row:
    """Some restarts and promotions under load."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        home = Path(folder)
        registry = publish(home)
        server = serve(home, port)
        command = [sys.executable, __file__, "--load", str(port), "--rate", str(rate)]
        load = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        time.sleep(2)
        promoted, codes = 0, []
        for restart in range(restarts):
            following = serve(home, port)
            server.send_signal(signal.SIGTERM)
            while server.poll() is None or promoted * restarts < (restart + 1) * promotions:
                if promoted < promotions:
                    promoted += 1
                    registry.promote("flowers", 2 if promoted % 2 else 1)
                time.sleep(0.7)
            codes.append(server.returncode)
            server = following
        time.sleep(2)
        found: Row = json.loads(load.communicate()[0])
        server.send_signal(signal.SIGTERM)
        codes.append(server.wait(60))
    return {"part": number, "restarts": restarts, "promotions": promoted, "exit_codes": sorted(set(codes)), **found}


def rows() -> list[Row]:
    return [json.loads(line) for line in RESULTS.read_text("utf-8").splitlines()] if RESULTS.exists() else []


def show() -> None:
    found = rows()
    sums = {
        key: sum(row[key] for row in found) for key in ("restarts", "promotions", "requests", "failed", "connections")
    }
    print(sums, "p99 ms", [row["p99_ms"] for row in found], "most ms", [row["most_ms"] for row in found])
    for row in found:
        if row["reasons"]:
            print(row["part"], row["reasons"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one restart and three promotions, not kept")
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second")
    parser.add_argument("--show", action="store_true", help="only print what is there")
    parser.add_argument("--load", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.load:
        print(json.dumps(asyncio.run(Load(given.load, given.rate).run())))
        return
    if given.quick:
        print(json.dumps(part(0, 1, 3, given.rate), indent=1))
        return
    RESULTS.parent.mkdir(exist_ok=True)
    done = {row["part"] for row in rows()}
    for number in range(0 if given.show else PARTS):
        if number not in done:
            row = part(number, RESTARTS, PROMOTIONS, given.rate)
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    show()


if __name__ == "__main__":
    main()
