"""The child process that opens one ONNX file from outside: a request on standard input, an answer on standard output.

It may die of the file without harm. What it writes is the file as it will be served: in one piece, stripped, with the
rows' axis named.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from modelmill.contracts import Array
from modelmill.errors import MillError, MissingExtra, ModelError
from modelmill.graph.origin import Origin
from modelmill.signature import Field


class Request(msgspec.Struct, frozen=True):
    """What to open, and what its outputs are to become."""

    path: str
    made: str
    """Where to write the file as it will be served."""
    task: str = ""
    classes: tuple[str | int, ...] = ()
    output: str = ""
    example: str = ""
    """An .npz file with inputs that the graph takes."""
    memory_bytes: int = 0
    """What this process may take; 0 is anything."""
    cpu_s: int = 0
    parent: int = 0
    """The process that asks; without it there is nobody to answer."""


class Answer(msgspec.Struct, frozen=True):
    """What the file turned out to be, or why it is refused."""

    inputs: tuple[Field, ...] = ()
    outputs: tuple[Field, ...] = ()
    classes: tuple[str | int, ...] = ()
    example: tuple[Any, ...] = ()
    notes: tuple[str, ...] = ()
    series: bool = False
    """Whether rows of one call belong together."""
    error: dict[str, str] | None = None


class Scores(NamedTuple):
    """The output that the outputs of a task are made of."""

    name: str
    sure: bool = False
    """Whether it holds probabilities."""
    how: str = ""
    """How that is known."""


NOISE = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from \S+ failed:")
NO_ROOM = re.compile(r"bad.alloc|allocat", re.IGNORECASE)

BELONG = "rows of a call belong together: an answer depends on the other rows, so that calls are never joined nor cut"

EXAMPLE_MOST = 20_000
"""Numbers of an example row that are kept with a version."""


def main() -> None:
    """Answer one request."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    _limit(request)
    where = Path(request.path).name
    try:
        answer = examine(request)
    except MillError as error:
        answer = Answer(error={**error.as_json(), "where": error.where if where in error.where else where})
    except ModuleNotFoundError as error:
        answer = Answer(error=MissingExtra.of("import", error.name or "a library", "mill").as_json())
    except MemoryError:
        message = f"it needs more than the {request.memory_bytes / 1e6:,.0f} MB that it may take"
        answer = Answer(error=ModelError(where, message, "Give it more with --memory.").as_json())
    sys.stdout.buffer.write(msgspec.json.encode(answer))


def _limit(request: Request) -> None:
    """Let the kernel end this process where it takes too much, and with its parent; elsewhere the parent looks on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if request.parent and os.getppid() != request.parent:
            os._exit(1)
    with contextlib.suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if request.memory_bytes:
            resource.setrlimit(resource.RLIMIT_AS, (request.memory_bytes, request.memory_bytes))
        if request.cpu_s:
            resource.setrlimit(resource.RLIMIT_CPU, (request.cpu_s, request.cpu_s))


def examine(request: Request) -> Answer:
    """Open the file, look through it, run it, and write what will be served. Raises ModelError for what is wrong."""
    try:
        return _examined(request, Path(request.path).name)
    except UnicodeDecodeError:
        message = "a text in it is none (UTF-8)"
        raise ModelError(Path(request.path).name, message, "The file is damaged: copy or export it anew.") from None


def _examined(request: Request, where: str) -> Answer:
    from modelmill.graph.decode import fields
    from modelmill.runtime.tries import are_coupled

    made = Path(request.made)
    model, notes = _opened(Path(request.path), where)
    inputs, _ = fields(model)
    shapes, origins, near = _shapes(model), _origins(model), _near(model)
    _write(model, made)
    del model
    session = _loaded(made)
    found = _probed(session, inputs, shapes, _read_example(request.example))
    scores = _scores(session, request, found, origins, where)
    series = are_coupled(session, found, near)
    del session  # and its memory with it
    model = _reopened(made)
    classes, told = _named(model, request, found, scores, where)
    _write(model, made)
    inputs, outputs = fields(model)
    notes += [*told, *_noted(found), *([BELONG] if series else [])]
    return Answer(inputs, outputs, classes, _example(inputs, found.given), tuple(notes), series)


def _opened(path: Path, where: str) -> tuple[Any, list[str]]:
    """The model in the file, in one piece and looked through."""
    from modelmill.graph.clean import load
    from modelmill.graph.external import take_in
    from modelmill.graph.faces import without_maps
    from modelmill.graph.sparse import without_sparse
    from modelmill.graph.vet import vet

    try:
        model = load(path.read_bytes())
    except ModelError as error:
        raise ModelError(
            where, error.message, "It is truncated, or of another format: copy or export it anew."
        ) from None
    take_in(model, path.resolve().parent, where)
    vet(model, where)
    notes = [f"{name}: a sparse tensor was written out" for name in without_sparse(model, where)]
    notes += [f"{name}: a list of maps became a tensor" for name in without_maps(model)]
    return model, notes


def _shapes(model: Any) -> dict[str, Any]:
    """What the file says of the sizes of its inputs and outputs."""
    from modelmill.graph.decode import given, shape

    return {value.name: shape(value) for value in (*given(model), *model.graph.output)}


def _origins(model: Any) -> dict[str, Origin]:
    """What makes the probabilities of every output, as far as operations tell."""
    from modelmill.graph.origin import origin

    return {value.name: origin(model, value.name) for value in model.graph.output}


def _near(model: Any) -> float:
    """How far answers may differ by rounding alone, as far as operations tell."""
    from modelmill.runtime.tries import NEAR, NEAR_SCALED

    return NEAR_SCALED if any(node.op_type.startswith("DynamicQuantize") for node in model.graph.node) else NEAR


def _reopened(path: Path) -> Any:
    from modelmill.graph.clean import load

    return load(path.read_bytes())


def _write(model: Any, path: Path) -> None:
    from modelmill.graph.clean import stripped

    path.write_bytes(stripped(model))


def _loaded(path: Path) -> Any:
    from modelmill.runtime.session import Session

    try:
        return Session(path)
    except ModelError as error:
        raise ModelError("the model", _plain(error.message), "Export it for the operators of ONNX's own.") from None


def _probed(session: Any, inputs: tuple[Field, ...], shapes: dict[str, Any], example: Mapping[str, Array]) -> Any:
    """What running the file showed. Raises ModelError where nothing runs, or nothing but NaN comes of it."""
    from modelmill.runtime.probe import probe
    from modelmill.runtime.tries import check_numbers

    try:
        found = probe(session, inputs, shapes, example)
    except ModelError as error:
        hint = "It may take more with --memory." if NO_ROOM.search(error.message) else error.hint
        raise ModelError(error.where, _plain(error.message), hint) from None
    check_numbers(session, found)
    return found


def _plain(message: str) -> str:
    """What the runtime said, without its own places and the name of the file in between."""
    return NOISE.sub("", message)


def _read_example(path: str) -> dict[str, Array]:
    from modelmill.data.archive import read_arrays

    return read_arrays(Path(path)) if path else {}


def _scores(session: Any, request: Request, found: Any, origins: Mapping[str, Origin], where: str) -> Scores | None:
    """The output that the task's are made of, where there is a task with some."""
    from modelmill.graph import faces
    from modelmill.runtime.tries import judged

    if request.task not in ("classify", "regress"):
        return None
    name = faces.scores_of(found.gave, request.output, where)
    if request.task == "regress":
        return Scores(name)
    faces.check_scores(name, found.gave[name], where)
    return Scores(name, *judged(session, found, name, origins[name]))


def _named(
    model: Any, request: Request, found: Any, scores: Scores | None, where: str
) -> tuple[tuple[str | int, ...], list[str]]:
    """Name the rows' axis, and give the outputs of the task; the classes, and what was done."""
    from modelmill.graph import faces

    axes, ranks = dict(found.axes), {name: values.ndim for name, values in (*found.given.items(), *found.gave.items())}
    classes: tuple[str | int, ...] = ()
    notes = []
    if scores is not None:
        gave = found.gave[scores.name]
        if request.task == "classify":
            classes, done = faces.classify(model, scores.name, gave.shape[1], scores.sure, request.classes, where)
            notes.append(f"label and probabilities are made of {scores.name}: {done} ({scores.how})")
        else:
            faces.regress(model, scores.name, gave, where)
            notes.append(f"value is {scores.name}")
        made = {"label": 1, "probabilities": 2, "value": 1}
        axes, ranks = {**axes, **dict.fromkeys(made, 0)}, {**ranks, **made}
    faces.name_rows(model, axes, ranks, found.rows)
    return classes, notes


def _example(inputs: tuple[Field, ...], given: Mapping[str, Array]) -> tuple[Any, ...]:
    """One row that the graph ran with, as JSON values; none where it is large, or where zeros of size 1 do as well."""
    row = [_row(given[field.name], field.axis) for field in inputs]
    plain = all(not np.any(values != 0) if values.dtype != object else False for values in row)
    small = all(size == 1 for field, values in zip(inputs, row, strict=True) for size in _free(field, values))
    if (plain and small) or sum(values.size for values in row) > EXAMPLE_MOST:
        return ()
    return tuple(values.tolist() for values in row)


def _row(values: Array, axis: int | None) -> Array:
    """The first row of a column; an array also where that is one text."""
    return values if axis is None else np.asarray(np.take(values, 0, axis), values.dtype)


def _free(field: Field, values: Array) -> list[int]:
    """The sizes that the row has where the graph takes any."""
    return [size for size, declared in zip(values.shape, field.row, strict=True) if declared < 0]


def _noted(found: Any) -> list[str]:
    notes = []
    if found.rows > 0:
        notes.append(f"takes {found.rows} row{'s' * (found.rows > 1)} at a time")
    notes += [f"{name} is one value for all rows of a call" for name in found.given if found.axes[name] is None]
    return notes


if __name__ == "__main__":
    main()
