"""modelmill's service beside its peers: processor time a request of the whole server, requests a second, latency.

    python bench/serve/front.py [--quick] [--models tiny,small] [--wires json,binary] [--connections 64,1]
                                [--only modelmill,fastapi] [--rounds 5] [--show]

Every server answers the same requests for the same ONNX file, with one thread a run: `modelmill` as it comes (with
validation, batching and figures), `bare` (a callable on uvicorn that does nothing else), and the peers as their
documentation has them, each in an environment of its own (`peers/NAME.txt`), which is made where it is missing.
`limit` is no server: the most rows a second that ONNX Runtime runs here in a loop, of any batch and any threads. Before
it is timed, a server's answer is compared with ONNX Runtime's own. Servers take turns in every round, so that what the
machine does meanwhile hits all of them. Load is wrk's, in a closed loop, on the same cores. A cell (server, model,
wire, connections, round) is a line of results/front.jsonl; one that is there is not run again. Needs `wrk`, and Java
for TorchServe.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import models
import numpy as np
import psutil

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = HERE / "results" / "front.jsonl"
ENVIRONMENTS = ROOT / ".venv-peers"
SERVERS = ("limit", "modelmill", "bare", "fastapi", "mlserver", "kserve", "litserve", "torchserve")
OWN = ("modelmill", "bare")
BINARY = ("limit", "modelmill", "kserve")
"""Servers that take tensors as bytes over HTTP."""
LENGTH = "Inference-Header-Content-Length"
START_S = 120.0

SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
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


def environment(name: str) -> Path:
    """The interpreter of a server, in an environment that is made where it is missing."""
    if name in OWN:
        return Path(sys.executable)
    python = ENVIRONMENTS / f"serve-{name}" / "bin" / "python"
    if not python.exists():
        print(f"making the environment of {name}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
        asked = [str(python), "-m", "pip", "install", "-q", "-r", str(HERE / "peers" / f"{name}.txt")]
        subprocess.run(asked, check=True)
    return python


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def url_of(name: str, port: int) -> str:
    path = "/predictions/m" if name == "torchserve" else "/v2/models/m/infer"
    return f"http://127.0.0.1:{port}{path}"


@contextmanager
def serving(
    name: str, model: Path, folder: Path, command: list[str] | None = None
) -> Iterator[tuple[psutil.Process, str]]:
    """A server that answers: its process and its URL; its whole process group ends with the block.

    command: of modelmill, where it is not the usual one; the ports are put behind it.
    """
    port, grpc = free_port(), free_port()
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    if name == "modelmill":
        env["MODELMILL_HOME"] = str(folder / "home")
        if not (folder / "home").exists():
            imported = [sys.executable, "-m", "modelmill.cli", "import", str(model), "--name", "m"]
            subprocess.run(imported, env=env, check=True, capture_output=True)
        command = command or [sys.executable, "-m", "modelmill.cli", "serve", "m"]
        command = [*command, "--port", str(port), "--grpc-port", str(grpc)]
    else:
        script = HERE / "peers" / f"{name}_server.py"
        command = [str(environment(name)), str(script), str(model), str(port), str(grpc)]
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True, cwd=folder)
    try:
        yield psutil.Process(process.pid), url_of(name, port)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def body_of(name: str, wire: str) -> tuple[bytes, int | None]:
    """The request, as every one of them is sent; and the length of its JSON part where bytes follow."""
    x = models.sample(name)
    tensor: Row = {"name": "x", "shape": list(x.shape), "datatype": "FP32"}
    if wire == "json":
        return json.dumps({"inputs": [{**tensor, "data": x.ravel().tolist()}]}).encode(), None
    tensor["parameters"] = {"binary_data_size": x.nbytes}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + x.tobytes(), len(head)


def limit(path: Path, model: str, seconds: float) -> Row:
    """The best loop of ONNX Runtime: rows a second, over batches and ways to use the cores."""
    import onnxruntime

    cores = os.cpu_count() or 1
    best: Row = {"rps": 0.0}
    for runners, threads in ((1, 1), (cores, 1), (1, cores)):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for batch in (1, 2, 4, 8, 16, 32):
            x = np.repeat(models.sample(model), batch, axis=0)
            ends = time.monotonic() + seconds / 6
            with ThreadPoolExecutor(runners) as pool:
                started, before = time.monotonic(), time.process_time()
                asked = [pool.submit(_runs, session, x, ends) for _ in range(runners)]
                rows = batch * sum(each.result() for each in asked)
                took, spent = time.monotonic() - started, time.process_time() - before
            if rows / took > best["rps"]:
                how = {"batch": batch, "runners": runners, "threads": threads}
                best = {"rps": round(rows / took, 1), "cpu_us": round(1e6 * spent / rows, 1), **how}
    return {**best, "p50_ms": 0.0, "p99_ms": 0.0, "errors": 0, "rss_mb": 0.0, "cold_s": 0.0}


def _runs(session: Any, x: np.ndarray, ends: float) -> int:
    count = 0
    while time.monotonic() < ends:
        session.run(["y"], {"x": x})
        count += 1
    return count


def answered(url: str, model: str) -> np.ndarray:
    """The output of one request, over JSON; waits for the server to answer at all."""
    body, _ = body_of(model, "json")
    ends = time.monotonic() + START_S
    while True:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                document = json.load(answer)
            return np.array(document["outputs"][0]["data"] if "outputs" in document else document, np.float32).ravel()
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            if time.monotonic() > ends:
                raise SystemExit(f"{url} does not answer: {error}") from None
            time.sleep(0.1)


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


def loaded(url: str, body: Path, length: int | None, connections: int, seconds: float) -> Row:
    """What wrk saw."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT)
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", "-s", script.name, url]
        env = {**os.environ, "BODY": str(body), **({} if length is None else {"LENGTH": str(length)})}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    found = re.search(r"^\{.*\}$", done.stdout, re.MULTILINE)
    assert found, done.stdout
    row: Row = json.loads(found[0])
    return row


def cell(name: str, model: str, wire: str, connections: int, seconds: float, folder: Path) -> Row:
    """One server under load."""
    import onnxruntime

    home = folder / model
    home.mkdir(exist_ok=True)
    path, body = home / "model.onnx", home / f"{wire}.body"
    if not path.exists():
        models.write(model, path)
    which = {"server": name, "model": model, "wire": wire, "connections": connections}
    if name == "limit":
        return {**which, **limit(path, model, seconds), "at": time.strftime("%Y-%m-%d %H:%M")}
    sent, length = body_of(model, wire)
    body.write_bytes(sent)
    wanted = onnxruntime.InferenceSession(str(path)).run(["y"], {"x": models.sample(model)})[0].ravel()
    started = time.monotonic()
    with serving(name, path, home) as (process, url):
        found = answered(url, model)
        cold_s = time.monotonic() - started
        np.testing.assert_allclose(found, wanted, atol=1e-4)
        loaded(url, body, length, connections, min(1.0, seconds))
        before = cpu_s(process)
        row = loaded(url, body, length, connections, seconds)
        spent = cpu_s(process) - before
        memory = sum(one.memory_info().rss for one in [process, *process.children(recursive=True)])
    return {
        **which,
        "cpu_us": round(1e6 * spent / max(row["requests"], 1), 1),
        "rps": round(1e6 * row["requests"] / row["micros"], 1),
        **row,
        "cold_s": round(cold_s, 2),
        "rss_mb": round(memory / 1e6, 1),
        "at": time.strftime("%Y-%m-%d %H:%M"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of two seconds, without TorchServe")
    parser.add_argument("--models", default="tiny")
    parser.add_argument("--wires", default="json")
    parser.add_argument("--only", default="")
    parser.add_argument("--connections", default="64,1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--show", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    rounds, seconds = (1, 2.0) if arguments.quick else (arguments.rounds, arguments.seconds)
    servers = arguments.only.split(",") if arguments.only else SERVERS[: 7 if arguments.quick else 8]
    path = arguments.results.with_stem("front_quick") if arguments.quick else arguments.results
    path.parent.mkdir(exist_ok=True)
    path.touch()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    known = {(row["server"], row["model"], row["wire"], row["connections"], row["round"]) for row in rows}
    if not arguments.show and shutil.which("wrk") is None:
        raise SystemExit("wrk is missing; Debian's package of that name has it")
    ways = (
        arguments.models.split(","),
        arguments.wires.split(","),
        map(int, arguments.connections.split(",")),
        servers,
    )
    cells = itertools.product(range(rounds), *ways)
    with tempfile.TemporaryDirectory() as folder:
        for number, model, wire, count, server in () if arguments.show else cells:
            asked = (server, model, wire, count)
            if (*asked, number) in known or (wire == "binary" and server not in BINARY):
                continue
            row = {**cell(*asked, seconds, Path(folder)), "round": number}
            rows.append(row)
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(*asked, f"{row['cpu_us']} us {row['rps']} /s p50 {row['p50_ms']:.2f} ms", flush=True)
    report(rows)


def report(rows: list[Row]) -> None:
    """Medians over rounds, and modelmill's ratio to each in the same rounds."""
    for which in dict.fromkeys((row["model"], row["wire"], row["connections"]) for row in rows):
        chosen = [row for row in rows if (row["model"], row["wire"], row["connections"]) == which]
        ours = {row["round"]: row for row in chosen if row["server"] == "modelmill"}
        print("\n{}, {}, {} connections".format(*which))
        print(
            f"{'':<12}{'CPU us':>9}{'per s':>9}{'p50 ms':>8}{'p99 ms':>8}{'MB':>6}{'cold s':>7}"
            "  modelmill's requests a second over it; its CPU over ours"
        )
        for server in dict.fromkeys(row["server"] for row in chosen):
            found = [row for row in chosen if row["server"] == server]
            keys = ("cpu_us", "rps", "p50_ms", "p99_ms", "rss_mb", "cold_s")
            cpu, rps, p50, p99, memory, cold = (np.median([row[key] for row in found]) for key in keys)
            told = "" if server == "modelmill" else ratios([(ours[r["round"]], r) for r in found if r["round"] in ours])
            print(f"{server:<12}{cpu:>9.1f}{rps:>9.0f}{p50:>8.2f}{p99:>8.2f}{memory:>6.0f}{cold:>7.2f}  {told}")
        errors = {row["server"]: row["errors"] for row in chosen if row["errors"]}
        if errors:
            print(f"errors: {errors}")


def ratios(pairs: list[tuple[Row, Row]]) -> str:
    """How many times as fast and as cheap as a peer, of the same rounds: median and range."""
    if not pairs:
        return ""
    faster = [ours["rps"] / row["rps"] for ours, row in pairs]
    cheaper = [row["cpu_us"] / ours["cpu_us"] for ours, row in pairs]
    return "; ".join(f"{np.median(each):.2f} ({min(each):.2f} to {max(each):.2f})" for each in (faster, cheaper))


if __name__ == "__main__":
    main()
