"""Has a file from outside examined by a child process, with limits, and tells how the child ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from modelmill.errors import MillError, MissingExtra, ModelError, SourceError
from modelmill.method import ROOT
from modelmill.registry.examine import Answer, Request

EXAMINE = (sys.executable, "-m", "modelmill.registry.examine")
"""The child."""

SPARE_BYTES = 2_000_000_000
"""What a child may take beside ten times the file."""

LARGEST = 2**31 - 1
"""What an ONNX file may hold, in bytes; what is larger keeps its tensors in files of their own."""


@dataclass(frozen=True)
class Limits:
    """What examining a file may take."""

    seconds: float = 120.0
    memory_mb: float = 0.0
    """0 is ten times the file and its folder's share, and 2 GB."""


def examined(path: str | Path, wanted: Mapping[str, Any], limits: Limits) -> tuple[Answer, bytes]:
    """What the file turned out to be, and its bytes as they will be served; no byte of it is parsed in this process.

    Raises ModelError: for a file that is refused, and for one of which the child died.
    """
    file = Path(path)
    size = _size(file)
    memory = int(limits.memory_mb * 1e6) or 10 * size + SPARE_BYTES
    with TemporaryDirectory(prefix="modelmill-import-") as folder:
        made = Path(folder) / "model.onnx"
        path, seconds = str(file.absolute()), int(limits.seconds) + 1
        request = Request(path, str(made), memory_bytes=memory, cpu_s=seconds, parent=os.getpid(), **wanted)
        said = ask(EXAMINE, msgspec.json.encode(request), file.name, limits.seconds)
        answer = _read(said, file.name)
        return answer, made.read_bytes()


def _size(file: Path) -> int:
    """How many bytes the file has, with what lies beside it: tensors in files of their own."""
    try:
        size = file.stat().st_size
        beside = sum(other.lstat().st_size for other in file.parent.iterdir() if other.name.startswith(file.stem))
    except OSError as error:
        raise ModelError(str(file), f"cannot be read: {error.strerror}", "Is the path right?") from None
    if not file.is_file():
        raise ModelError(str(file), "is no file", "Name the .onnx file itself.")
    if size == 0:
        raise ModelError(str(file), "is empty", "Copy it anew.")
    if size > LARGEST:
        raise ModelError(str(file), f"has {size:,} bytes, and an ONNX file holds 2 GB at most", "Copy it anew.")
    return max(size, beside)


def ask(command: Sequence[str], request: bytes, where: str, seconds: float) -> bytes:
    """What a child said to a request. Raises ModelError, with the reason, where it ended otherwise than well."""
    paths = os.pathsep.join(filter(None, [str(ROOT.parent), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, input=request, capture_output=True, timeout=seconds, env=environment)
    except subprocess.TimeoutExpired:
        message = f"the process that examined it took longer than {seconds:g} s and was ended"
        raise ModelError(where, message, "Give it longer with --seconds, if you trust the file.") from None
    if done.returncode == 0:
        return done.stdout
    raise ModelError(where, f"the process that examined it {_death(done)}", "The file is damaged, or made to harm.")


def _death(done: subprocess.CompletedProcess[bytes]) -> str:
    """How a child ended, in words."""
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        reasons = {"SIGKILL": "out of memory?", "SIGXCPU": "out of time", "SIGABRT": "out of memory?"}
        return f"was killed by {name}{f' ({reasons[name]})' if name in reasons else ''}"
    last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
    return f"ended with code {done.returncode}: {last[0][:300]}"


def _read(said: bytes, where: str) -> Answer:
    """The answer of a child, with its refusal raised anew."""
    try:
        answer = msgspec.json.decode(said, type=Answer)
    except msgspec.DecodeError as error:
        raise ModelError(where, f"the process that examined it gave no answer: {error}", "Try again.") from None
    if answer.error is not None:
        kinds: dict[str, type[MillError]] = {kind.code: kind for kind in (MissingExtra, SourceError)}
        kind = kinds.get(answer.error["code"], ModelError)
        raise kind(answer.error["where"], answer.error["message"], answer.error["try"])
    return answer
