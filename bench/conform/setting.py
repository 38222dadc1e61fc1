"""A service to be looked at from outside, with Triton's example models, and the environments of those who look."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import models

sys.path.append(str(Path(__file__).parents[1]))

from environments import environment

HERE = Path(__file__).parent
Row = dict[str, Any]
ROOT = HERE.parents[1]
RESULTS = HERE / "results"
START_S = 180.0
OWN = (sys.executable, "-m", "modelmill.cli")


@dataclass(frozen=True)
class Running:
    """A service that answers."""

    pid: int
    http: str
    grpc: str
    home: Path


@dataclass(frozen=True)
class Home:
    """Where models were taken in, and what was said of those that were refused."""

    path: Path
    refused: dict[str, str]


def interpreter(name: str) -> Path:
    """The interpreter of an environment, which is made where it is missing."""
    return environment(f"conform-{name}", HERE / "peers" / f"{name}.txt")


@contextmanager
def serving() -> Iterator[Running]:
    """`modelmill serve` with Triton's example models; it ends with the block."""
    with published(models.examples()) as home:
        if home.refused:
            raise SystemExit(f"not taken in: {home.refused}")
        with served(home) as service:
            yield service


@contextmanager
def published(graphs: Mapping[str, models.Graph]) -> Iterator[Home]:
    """A home with models, each taken in by `modelmill import`; it goes with the block."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = Home(folder / "home", {})
        for path in models.make(folder, graphs):
            code, said = ended([*OWN, "import", str(path)], START_S, env=at(home))
            if code:
                home.refused[path.stem] = said
                print(f"{path.stem} was not taken in: {said}", file=sys.stderr, flush=True)
        yield home


@contextmanager
def served(home: Home, names: Sequence[str] = ()) -> Iterator[Running]:
    """`modelmill serve` with some models of a home, or with all; it ends with the block."""
    port, grpc = free_port(), free_port()
    command = [*OWN, "serve", "--port", str(port), "--grpc-port", str(grpc)]
    command += [name for name in names if name not in home.refused]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, env={**os.environ, **at(home)}, stdout=log, stderr=log)
        try:
            await_ready(f"http://127.0.0.1:{port}/v2/health/ready", process)
            yield Running(process.pid, f"127.0.0.1:{port}", f"127.0.0.1:{grpc}", home.path)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            log.seek(0)
            said = log.read()
            if "Traceback" in said:
                print(f"the service's log has a traceback:\n{said[-4000:]}", file=sys.stderr)


def at(home: Home) -> dict[str, str]:
    """The variable of a command that works in a home."""
    return {"MODELMILL_HOME": str(home.path)}


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


def copied(script: Path, folder: Path, words: Mapping[str, str]) -> list[str]:
    """Copy a script of others in which ours stand for some of its words, by pattern: which of them it had."""
    text = script.read_text()
    found = []
    for pattern, ours in words.items():
        text, times = re.subn(pattern, ours.replace("\\", r"\\"), text)
        found += [pattern] * bool(times)
    (folder / script.name).write_text(text)
    return found


def ended(
    command: Sequence[str], limit_s: float, folder: Path | None = None, env: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """With which code a command ended, and what it said; -1 where it did not end in time."""
    around = {**os.environ, **(env or {})}
    try:
        done = subprocess.run(
            command, cwd=folder, env=around, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return -1, f"no end after {limit_s:g} s"
    return done.returncode, (done.stdout + done.stderr).strip()


def kept(name: str) -> list[Row]:
    """The rows that are there already: what they are about is not run again."""
    path = RESULTS / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(name: str, rows: Sequence[Row]) -> None:
    """Write rows, a line each, after those that are there."""
    _write(name, rows, "a")


def record(name: str, rows: Sequence[Row]) -> None:
    """Write rows, a line each, in place of those that were there."""
    _write(name, rows, "w")


def _write(name: str, rows: Sequence[Row], mode: str) -> None:
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name}.jsonl").open(mode) as out:
        out.write("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
