"""Requests answered in time, under three loads, for three models: the engine as it comes against fixed batching.

    python bench/serve/deadlines.py [--quick] [--rounds 3] [--seconds 4] [--show]

Requests come as a Poisson process from this process, over HTTP with binary tensors, to a service in another one:
whoever is slow gets no fewer (an open loop), and time counts from the moment at which a request was due. Each says its
`timeout`. Deadlines are fixed beforehand: 50 ms for `small` (a CNN that is quick enough to run on the loop), 100 ms for
`double` (a CNN: batches save next to nothing) and 200 ms for `wide` (large matrices: batches save much). Loads are 30,
80 and 130 % of what the service itself answers in a closed loop of 64 connections, measured once a model. The services
of all policies are up all the time, and take turns within a round, so that what else the machine does hits all of them.
A smaller model than `small` is answered faster than this process can ask.

A policy is the engine ("ours"), or a window in milliseconds and a size (`fixed.py`). Its score is the mean, over the
nine cells, of its requests in time divided by those of the cell's best fixed policy. A line of results/deadlines.jsonl
is one cell of one round; what is there is not run again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from statistics import mean, median
from typing import Any
from urllib.parse import urlsplit

import models
import numpy as np

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = HERE / "results" / "deadlines.jsonl"
DEADLINE_MS = {"small": 50.0, "double": 100.0, "wide": 200.0}
LOADS = (0.3, 0.8, 1.3)
FIXED = ((0, 1), (0, 8), (0, 32), (0, 64), (2, 8), (2, 32), (5, 32), (5, 64), (10, 64))
POLICIES = ("ours", *(f"{window} ms, {size}" for window, size in FIXED))
CONNECTIONS = 16_384
"""So many may be open: where few may, a service that is late is asked less often than one that is not."""
LENGTH = 320
"""The length of every request's JSON part, filled up with spaces."""

Row = dict[str, Any]


def serve(policy: str) -> None:
    """The service of one policy, until stdin ends; prints its URL."""
    from fixed import FixedWindow

    from modelmill.registry.registry import Registry
    from modelmill.serve.server import Limits, Service
    from modelmill.store.home import Home

    home = Home(Path(os.environ["MODELMILL_HOME"]))
    with Service(Registry(home.database, home.blobs), limits=Limits(watch_seconds=60.0)) as service:
        if policy != "ours":
            window, size = policy.replace(" ms", "").split(", ")
            service.server.plane.engine = FixedWindow(int(size), float(window))
        print(service.url, flush=True)
        sys.stdin.read()


class Client(asyncio.Protocol):
    """One connection: a request at a time, and when its answer is there, `done` is told the status."""

    def __init__(self) -> None:
        self.buffer = b""
        self.transport: asyncio.Transport | None = None
        self.waiter: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        at = lower.index(b"content-length:") + 15
        if len(rest) >= int(lower[at:].split(b"\r\n", 1)[0]):
            self.buffer = b""
            self._tell(int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self._tell(0)

    def _tell(self, status: int) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(status)

    def ask(self, request: bytes) -> asyncio.Future[int]:
        assert self.transport is not None
        self.waiter = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.waiter


class Load:
    """Requests for one model at one service."""

    def __init__(self, url: str, model: str) -> None:
        parts = urlsplit(url)
        self.where = (parts.hostname, parts.port)
        self.x = models.sample(model)
        self.head = (
            f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {LENGTH + self.x.nbytes}\r\n"
            f"Inference-Header-Content-Length: {LENGTH}\r\n\r\n"
        ).encode()
        self.free: deque[Client] = deque()
        self.open = 0

    def request(self, timeout_ms: float | None) -> bytes:
        said: Row = {"binary_data_output": True}
        if timeout_ms is not None:
            said["timeout"] = max(1, round(timeout_ms * 1000))
        size = {"binary_data_size": self.x.nbytes}
        tensor = {"name": "x", "shape": list(self.x.shape), "datatype": "FP32", "parameters": size}
        text = json.dumps({"inputs": [tensor], "parameters": said})
        return self.head + text.ljust(LENGTH).encode() + self.x.tobytes()

    async def client(self) -> Client | None:
        """A free connection, or a new one; none where too many are open."""
        while self.free:
            client = self.free.pop()
            if client.transport is not None:
                return client
        if self.open >= CONNECTIONS:
            return None
        self.open += 1
        _, made = await asyncio.get_running_loop().create_connection(Client, *self.where)
        return made

    async def one(self, due: float, deadline_ms: float | None) -> tuple[int, float]:
        """The status of a request that was due then, and its milliseconds."""
        client = await self.client()
        if client is None:
            return 0, 0.0
        left = None if deadline_ms is None else deadline_ms - (time.monotonic() - due) * 1000
        status = await client.ask(self.request(left))
        self.free.append(client)
        return status, (time.monotonic() - due) * 1000

    def close(self) -> None:
        for client in self.free:
            if client.transport is not None:
                client.transport.close()


async def capacity(url: str, model: str, seconds: float) -> float:
    """Answers a second in a closed loop."""
    load = Load(url, model)
    ends = time.monotonic() + seconds
    good = 0

    async def worker() -> None:
        nonlocal good
        while time.monotonic() < ends:
            status, _ = await load.one(time.monotonic(), None)
            good += status == 200

    await asyncio.gather(*(worker() for _ in range(64)))
    load.close()
    return good / seconds


async def cell(url: str, model: str, rate: float, seconds: float, seed: int) -> Row:
    """An open loop at a rate."""
    draw = random.Random(seed)
    load = Load(url, model)
    deadline_ms = DEADLINE_MS[model]
    begins = time.monotonic() + 0.05
    due, dues = begins, []
    while (due := due + draw.expovariate(rate)) < begins + seconds:
        dues.append(due)
    tasks: list[asyncio.Task[tuple[int, float]]] = []
    lags: list[float] = []
    for due in dues:
        wait = due - time.monotonic()
        if wait > 0 or len(tasks) % 32 == 0:
            await asyncio.sleep(max(0.0, wait))
        lags.append(max(0.0, time.monotonic() - due) * 1000)
        tasks.append(asyncio.ensure_future(load.one(due, deadline_ms)))
    found = await asyncio.gather(*tasks)
    load.close()
    statuses = [status for status, _ in found]
    good = [took for status, took in found if status == 200 and took <= deadline_ms]
    return {
        "offered": round(len(dues) / seconds, 1),
        "good": round(len(good) / seconds, 1),
        "p50_ms": round(float(np.median(good)), 2) if good else None,
        "statuses": {str(status): statuses.count(status) for status in sorted(set(statuses))},
        "lag_ms": round(float(np.mean(lags)), 2) if lags else 0.0,
    }


def scores(rows: list[Row]) -> dict[str, tuple[float, float]]:
    """By policy: the mean and the least over cells of requests in time, relative to the cell's best fixed policy."""
    cells = sorted({(row["model"], row["load"]) for row in rows})
    found: dict[str, list[float]] = {}
    for model, load in cells:
        good = {
            policy: median(values)
            for policy in POLICIES
            if (values := [r["good"] for r in rows if (r["model"], r["load"], r["policy"]) == (model, load, policy)])
        }
        best = max((value for policy, value in good.items() if policy != "ours"), default=0.0)
        for policy, value in good.items():
            found.setdefault(policy, []).append(value / max(best, 1e-9))
    return {policy: (mean(values), min(values)) for policy, values in found.items()}


def show(rows: list[Row]) -> None:
    for model, load in sorted({(row["model"], row["load"]) for row in rows}):
        here = [row for row in rows if (row["model"], row["load"]) == (model, load)]
        said = ", ".join(
            f"{policy}: {median(values):.0f}"
            for policy in POLICIES
            if (values := [row["good"] for row in here if row["policy"] == policy])
        )
        print(f"{model} at {load:.0%} ({median(row['offered'] for row in here):.0f} offered): {said}")
    by_policy = scores(rows)
    for policy, (average, least) in sorted(by_policy.items(), key=lambda item: -item[1][0]):
        print(f"{policy:>10}: {average:.3f} in the mean, {least:.2f} at least")
    fixed = [average for policy, (average, _) in by_policy.items() if policy != "ours"]
    if fixed and "ours" in by_policy:
        print(f"ours / best fixed: {by_policy['ours'][0] / max(fixed):.2f}")


def run(path: Path, rounds: int, seconds: float) -> list[Row]:
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    path.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, path.open("a") as file, ExitStack() as stack:
        env = {**os.environ, "MODELMILL_HOME": folder, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        for model in DEADLINE_MS:
            models.write(model, Path(folder) / f"{model}.onnx")
            command = ["import", str(Path(folder) / f"{model}.onnx"), "--name", model]
            subprocess.run([sys.executable, "-m", "modelmill.cli", *command], env=env, check=True, capture_output=True)
        urls = {policy: stack.enter_context(Running(policy, env)).url for policy in POLICIES}

        def keep(row: Row) -> None:
            row = {**row, "at": time.strftime("%Y-%m-%d %H:%M"), "cores": len(os.sched_getaffinity(0))}
            rows.append(row)
            print(json.dumps(row), file=file, flush=True)

        for model in DEADLINE_MS:
            if not any(row["policy"] == "capacity" and row["model"] == model for row in rows):
                asyncio.run(capacity(urls["ours"], model, 1.0))
                keep(
                    {"policy": "capacity", "model": model, "rate": asyncio.run(capacity(urls["ours"], model, seconds))}
                )
        rates = {row["model"]: row["rate"] for row in rows if row["policy"] == "capacity"}
        known = {(row["policy"], row["model"], row["load"], row["round"]) for row in rows if "round" in row}
        for round_ in range(rounds):
            for model, load in ((model, load) for model in DEADLINE_MS for load in LOADS):
                policies = list(POLICIES)
                random.Random(round_).shuffle(policies)
                for policy in policies:
                    if (policy, model, load, round_) in known:
                        continue
                    seed = round_ * 100 + LOADS.index(load)
                    row = asyncio.run(cell(urls[policy], model, rates[model] * load, seconds, seed))
                    keep({"policy": policy, "model": model, "load": load, "round": round_, **row})
    return rows


class Running:
    """A service in a process of its own, which ends with the block."""

    def __init__(self, policy: str, env: dict[str, str]) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), "--serve", policy]
        log = Path(env["MODELMILL_HOME"]) / f"{policy}.log"
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            raise SystemExit(f"the service of {policy} did not start: {log.read_text()[-2000:]}")

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *error: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of one and a half seconds a cell")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--show", action="store_true", help="run nothing")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return
    path = RESULTS.with_stem("deadlines_quick") if arguments.quick else RESULTS
    rounds, seconds = (1, 1.5) if arguments.quick else (arguments.rounds, arguments.seconds)
    rows = (
        [json.loads(line) for line in path.read_text().splitlines()] if arguments.show else run(path, rounds, seconds)
    )
    show([row for row in rows if "round" in row])


if __name__ == "__main__":
    main()
