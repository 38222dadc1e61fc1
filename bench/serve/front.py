"""modelmill's service beside its peers: processor time a request of the whole server, requests a second, latency.

    python bench/serve/front.py [--quick] [--models tiny,small] [--only modelmill,fastapi] [--connections 64,1] [--show]

Every server answers the same requests for the same ONNX file, over JSON, with one thread a run: `modelmill` as it comes
(with validation, batching and figures), `bare` (a callable on uvicorn that does nothing else), and the peers as their
documentation has them, each in an environment of its own (`peers/NAME.txt`), which is made where it is missing. Before
it is timed, a server's answer is compared with ONNX Runtime's own. Servers take turns in every round, so that what the
machine does meanwhile hits all of them. Load is wrk's, in a closed loop, on the same cores. A cell (server, model,
connections, round) is a line of results/front.jsonl; one that is there is not run again. Needs `wrk`; TorchServe Java.
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
SERVERS = ("modelmill", "bare", "fastapi", "mlserver", "kserve", "litserve", "torchserve")
OWN = ("modelmill", "bare")
START_S = 120.0

SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
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
def serving(name: str, model: Path, folder: Path) -> Iterator[tuple[psutil.Process, str]]:
    """A server that answers: its process and its URL; its whole process group ends with the block."""
    port, grpc = free_port(), free_port()
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    if name == "modelmill":
        env["MODELMILL_HOME"] = str(folder / "home")
        if not (folder / "home").exists():
            imported = [sys.executable, "-m", "modelmill.cli", "import", str(model), "--name", "m"]
            subprocess.run(imported, env=env, check=True, capture_output=True)
        command = [sys.executable, "-m", "modelmill.cli", "serve", "m", "--port", str(port), "--grpc-port", str(grpc)]
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


def body_of(name: str) -> bytes:
    """The request, as every one of them sends it."""
    x = models.sample(name)
    tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


def answered(url: str, body: bytes) -> np.ndarray:
    """The output of one request; waits for the server to answer at all."""
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


def loaded(url: str, body: Path, connections: int, seconds: float) -> Row:
    """What wrk saw."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT)
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", "-s", script.name, url]
        done = subprocess.run(
            command, env={**os.environ, "BODY": str(body)}, capture_output=True, text=True, check=True
        )
    found = re.search(r"^\{.*\}$", done.stdout, re.MULTILINE)
    assert found, done.stdout
    row: Row = json.loads(found[0])
    return row


def cell(name: str, model: str, connections: int, seconds: float, folder: Path) -> Row:
    """One server under load."""
    import onnxruntime

    path, body = folder / f"{model}.onnx", folder / f"{model}.json"
    if not path.exists():
        models.write(model, path)
        body.write_bytes(body_of(model))
    home = folder / model
    home.mkdir(exist_ok=True)
    wanted = onnxruntime.InferenceSession(str(path)).run(["y"], {"x": models.sample(model)})[0].ravel()
    started = time.monotonic()
    with serving(name, path, home) as (process, url):
        found = answered(url, body.read_bytes())
        cold_s = time.monotonic() - started
        np.testing.assert_allclose(found, wanted, atol=1e-4)
        loaded(url, body, connections, min(1.0, seconds))
        before = cpu_s(process)
        row = loaded(url, body, connections, seconds)
        spent = cpu_s(process) - before
        memory = sum(one.memory_info().rss for one in [process, *process.children(recursive=True)])
    return {
        "server": name,
        "model": model,
        "connections": connections,
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
    parser.add_argument("--only", default="")
    parser.add_argument("--connections", default="64,1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--show", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    rounds, seconds = (1, 2.0) if arguments.quick else (arguments.rounds, arguments.seconds)
    servers = arguments.only.split(",") if arguments.only else SERVERS[: 6 if arguments.quick else 7]
    path = arguments.results.with_stem("front_quick") if arguments.quick else arguments.results
    path.parent.mkdir(exist_ok=True)
    path.touch()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    known = {(row["server"], row["model"], row["connections"], row["round"]) for row in rows}
    if not arguments.show and shutil.which("wrk") is None:
        raise SystemExit("wrk is missing; Debian's package of that name has it")
    cells = itertools.product(range(rounds), arguments.models.split(","), arguments.connections.split(","), servers)
    with tempfile.TemporaryDirectory() as folder:
        for number, model, connections, server in () if arguments.show else cells:
            if (server, model, int(connections), number) in known:
                continue
            row = {**cell(server, model, int(connections), seconds, Path(folder)), "round": number}
            rows.append(row)
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(
                f"{server:<11}{model:<7}{connections:>3} {row['cpu_us']:>9} us {row['rps']:>9} /s "
                f"p50 {row['p50_ms']:.2f} ms",
                flush=True,
            )
    report(rows)


def report(rows: list[Row]) -> None:
    """Medians over rounds, and modelmill's ratio to each in the same rounds."""
    for model, connections in dict.fromkeys((row["model"], row["connections"]) for row in rows):
        chosen = [row for row in rows if (row["model"], row["connections"]) == (model, connections)]
        ours = {row["round"]: row for row in chosen if row["server"] == "modelmill"}
        print(
            f"\n{model}, {connections} connections\n{'':<12}{'CPU us':>9}{'per s':>9}{'p50 ms':>8}{'p99 ms':>8}"
            f"{'MB':>6}{'cold s':>7}  modelmill's requests a second over it; its CPU over ours"
        )
        for server in dict.fromkeys(row["server"] for row in chosen):
            found = [row for row in chosen if row["server"] == server]
            medians = [np.median([row[key] for row in found]) for key in ("cpu_us", "rps", "p50_ms", "p99_ms")]
            kept = [np.median([row[key] for row in found]) for key in ("rss_mb", "cold_s")]
            pairs = [(ours[row["round"]], row) for row in found if row["round"] in ours]
            faster = [ours["rps"] / row["rps"] for ours, row in pairs]
            cheaper = [row["cpu_us"] / ours["cpu_us"] for ours, row in pairs]
            told = (
                f"{np.median(faster):.2f} ({min(faster):.2f} to {max(faster):.2f}); "
                f"{np.median(cheaper):.2f} ({min(cheaper):.2f} to {max(cheaper):.2f})"
                if pairs and server != "modelmill"
                else ""
            )
            print(
                f"{server:<12}{medians[0]:>9.1f}{medians[1]:>9.0f}{medians[2]:>8.2f}{medians[3]:>8.2f}"
                f"{kept[0]:>6.0f}{kept[1]:>7.2f}  {told}"
            )
        errors = {row["server"]: row["errors"] for row in chosen if row["errors"]}
        if errors:
            print(f"errors: {errors}")


if __name__ == "__main__":
    main()
