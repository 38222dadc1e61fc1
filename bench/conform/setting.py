"""A service to be looked at from outside, with Triton's example models, and the environments of those who look."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import models

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = HERE / "results"
START_S = 180.0


@dataclass(frozen=True)
class Running:
    """A service that answers."""

    pid: int
    http: str
    grpc: str
    home: Path


def environment(name: str) -> Path:
    """The interpreter of an environment, which is made where it is missing."""
    python = ROOT / ".venv-peers" / f"conform-{name}" / "bin" / "python"
    if not python.exists():
        print(f"making the environment of {name}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
        asked = [str(python), "-m", "pip", "install", "-q", "-r", str(HERE / "peers" / f"{name}.txt")]
        subprocess.run(asked, check=True)
    return python


@contextmanager
def serving() -> Iterator[Running]:
    """`modelmill serve` with the example models, each taken in by `modelmill import`; it ends with the block."""
    port, grpc = free_port(), free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = {**os.environ, "MODELMILL_HOME": str(folder / "home")}
        own = [sys.executable, "-m", "modelmill.cli"]
        for path in models.make(folder):
            done = subprocess.run([*own, "import", str(path)], env=env, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{path.name} was not taken in: {done.stderr}")
        command = [*own, "serve", "--port", str(port), "--grpc-port", str(grpc)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            await_ready(f"http://127.0.0.1:{port}/v2/health/ready", process)
            yield Running(process.pid, f"127.0.0.1:{port}", f"127.0.0.1:{grpc}", folder / "home")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            said = (folder / "log").read_text()
            if "Traceback" in said:
                print(f"the service's log has a traceback:\n{said[-4000:]}", file=sys.stderr)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a service is ready."""
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise SystemExit("the service ended at once")
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the service does not become ready")


def record(name: str, rows: list[dict[str, Any]]) -> None:
    """Write rows, a line each, in place of those that were there."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.jsonl").write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
