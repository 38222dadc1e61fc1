"""The servers that are compared: each in an environment of its own, with one model, on free ports."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

sys.path.append(str(Path(__file__).parents[1]))

from environments import environment

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
OWN = ("modelmill", "bare")
"""Servers that run in the environment of the project."""
INTERPRETERS = {"pytriton": "/usr/bin/python3.11"}
"""Where another one than this is wanted: Triton has an interpreter within, which must be of the same build."""


@dataclass(frozen=True)
class At:
    """A running server: its process, where it answers, and what opens it, if it wants a key."""

    process: psutil.Process
    url: str
    grpc: str
    key: str = ""
    server: str = "modelmill"


def interpreter(name: str) -> Path:
    """The interpreter of a server, in an environment that is made where it is missing."""
    if name in OWN:
        return Path(sys.executable)
    return environment(f"serve-{name}", HERE / "peers" / f"{name}.txt", INTERPRETERS.get(name, sys.executable))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def url_of(name: str, port: int) -> str:
    path = {"torchserve": "/predictions/m", "mlflow": "/invocations"}.get(name, "/v2/models/m/infer")
    return f"http://127.0.0.1:{port}{path}"


@contextmanager
def serving(name: str, model: Path, folder: Path, command: list[str] | None = None) -> Iterator[At]:
    """A server of one ONNX file; all of its processes end with the block.

    name: of a peer, with the way that it serves where it has more than one: `bentoml-batch`.
    command: of modelmill, where it is not the usual one; the ports are put behind it. modelmill wants a key.
    """
    port, grpc = free_port(), free_port()
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    key = ""
    if name == "modelmill":
        env["MODELMILL_HOME"] = str(folder / "home")
        key = keyed(model, folder, env)
        command = command or [sys.executable, "-m", "modelmill.cli", "serve", "m"]
        command = [*command, "--port", str(port), "--grpc-port", str(grpc)]
    else:
        peer, *way = name.split("-")
        script = HERE / "peers" / f"{peer}_server.py"
        command = [str(interpreter(peer)), str(script), str(model), str(port), str(grpc), *way]
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True, cwd=folder)
    try:
        yield At(psutil.Process(process.pid), url_of(name, port), f"127.0.0.1:{grpc}", key, name)
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server that leads its session, and all in it: its processes may have groups of their own."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        for each in session(process.pid):
            with suppress(ProcessLookupError):
                os.kill(each, sent)
        ends = time.monotonic() + 20
        while (process.poll() is None or session(process.pid)) and time.monotonic() < ends:
            time.sleep(0.05)


def session(leader: int) -> list[int]:
    """The ids of the processes of a session."""
    found = []
    for each in psutil.pids():
        with suppress(ProcessLookupError):
            if os.getsid(each) == leader:
                found.append(each)
    return found


def keyed(model: Path, folder: Path, env: dict[str, str]) -> str:
    """A key of the home in `folder`, which is made with the model where it is not there."""
    kept = folder / "key.json"
    if not kept.exists():
        command = [sys.executable, "-m", "modelmill.cli"]
        imported = [*command, "import", str(model), "--name", "m"]
        subprocess.run(imported, env=env, check=True, capture_output=True)
        made = [*command, "keys", "create", "bench", "--json"]
        kept.write_bytes(subprocess.run(made, env=env, check=True, capture_output=True).stdout)
    return str(json.loads(kept.read_bytes())["key"])
