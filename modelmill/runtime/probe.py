"""Finds out by running it what a graph from outside does not say: where its rows lie, and sizes that it runs with."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modelmill.contracts import Array
from modelmill.errors import ModelError
from modelmill.graph.decode import Shape, axes_of
from modelmill.runtime.session import Session
from modelmill.signature import Field

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 224, 256, 512, 1024, 4096, 16000)
"""Tried for what the file leaves open, all alike."""

MOST = 2**27
"""Elements of an input at most: more are no row that anyone serves."""

BATCH = re.compile(r"batch|rows|^n$|^b$", re.IGNORECASE)
"""What exporters call the axis of the rows."""

RATE = re.compile(r"^(sr|(sample|sampling)_?rate)$", re.IGNORECASE)
RATE_HZ = 16000
"""What most models of speech take."""

Axes = Mapping[str, int | None]


@dataclass(frozen=True)
class Found:
    """What running a graph showed."""

    axes: Axes
    """Of every input and output: where the rows lie."""
    rows: int
    """How many rows it takes at once; -1 for any number."""
    given: Mapping[str, Array]
    """Inputs that it ran with, of one row where it takes any number."""
    gave: Mapping[str, Array]
    """What it answered to them."""


def probe(
    session: Session, inputs: Sequence[Field], declared: Mapping[str, Shape], example: Mapping[str, Array]
) -> Found:
    """Run a graph with rows that are made up, or with an example's, until it is known where its rows lie.

    declared: the sizes that the file gives for every input and output. Raises ModelError where no made-up row runs.
    """
    if not inputs:
        raise ModelError("the model", "it takes nothing", "A model that is served answers to something.")
    strangers = example.keys() - {field.name for field in inputs}
    if strangers:
        known = ", ".join(field.name for field in inputs)
        raise ModelError("the example", f"no input is named {min(strangers)!r}", f"There are {known}.")
    failure: ModelError | None = None
    single: Found | None = None
    for axes in _candidates(inputs, declared):
        for size in SIZES:
            try:
                found = _found(session, inputs, axes, size, example)
            except ModelError as error:
                failure = failure or error
                continue
            if found.rows < 0 or not _is_open(inputs, axes):
                return found
            single = single or found
            break
    if single is None:
        message = f"no made-up row runs: {failure.message if failure else 'nothing fits'}"
        raise ModelError("the model", message, "Give a row that it takes: --example FILE.npz, an array an input.")
    return single


def _candidates(inputs: Sequence[Field], declared: Mapping[str, Shape]) -> Iterator[Axes]:
    """Where the rows of the inputs may lie, the likeliest first."""
    named = {size for field in inputs for size in declared[field.name] if isinstance(size, str)}
    first = {shape[0] for field in inputs if (shape := declared[field.name]) and isinstance(shape[0], str)}
    for name in sorted(named, key=lambda name: (not BATCH.search(name), name not in first, name)):
        if BATCH.search(name) or name in first:
            yield {field.name: _place(declared[field.name], name) for field in inputs}
    if any(shape and shape[0] is None for shape in declared.values()):
        yield {field.name: _place(declared[field.name], None) for field in inputs}
    fixed = axes_of({name: [size or 1 for size in shape] for name, shape in declared.items()})
    yield {field.name: fixed[field.name] for field in inputs}


def _place(shape: Shape, name: str | None) -> int | None:
    """Where in a shape the rows have that name, or else no name."""
    for wanted in (name, None):
        if wanted in shape:
            return list(shape).index(wanted)
    return None


def _is_open(inputs: Sequence[Field], axes: Axes) -> bool:
    return any(axis is not None and field.shape[axis] < 0 for field in inputs if (axis := axes[field.name]) is not None)


def _found(session: Session, inputs: Sequence[Field], axes: Axes, size: int, example: Mapping[str, Array]) -> Found:
    """What the graph does with these axes: for one row, and if it can, for two and for three."""
    rows = next((n for field in inputs if (axis := axes[field.name]) is not None and (n := field.shape[axis]) > 0), 1)
    given = {field.name: _made(field, axes[field.name], rows, size, example) for field in inputs}
    gave = session.run(given)
    if not _is_open(inputs, axes):
        shapes = {name: values.shape for name, values in (*given.items(), *gave.items())}
        return Found({**axes_of(shapes), **axes}, rows, given, gave)
    many = []
    try:
        for n in (2, 3):
            outputs = session.run({name: _repeated(values, axes[name], n) for name, values in given.items()})
            many.append({name: values.shape for name, values in outputs.items()})
    except ModelError:
        return Found({**axes, **axes_of({name: values.shape for name, values in gave.items()})}, rows, given, gave)
    told = {name: _growing(many[0][name], many[1][name]) for name in gave}
    return Found({**axes, **told}, -1, given, gave)


def _growing(two: Sequence[int], three: Sequence[int]) -> int | None:
    """The axis that has as many sizes as there are rows."""
    both = enumerate(zip(two, three, strict=True))
    return next((axis for axis, sizes in both if sizes == (2, 3)), None)


def _repeated(values: Array, axis: int | None, rows: int) -> Array:
    return values if axis is None else np.repeat(values, rows, axis)


def _made(field: Field, axis: int | None, rows: int, size: int, example: Mapping[str, Array]) -> Array:
    """The tensor of an input for so many rows: the example's first ones, or zeros."""
    if field.name in example:
        values = example[field.name]
        if axis is None:
            return values
        return np.ascontiguousarray(np.take(values, np.arange(rows), axis, mode="clip"))
    sizes = tuple(rows if at == axis else n if n >= 0 else size for at, n in enumerate(field.shape))
    if math.prod(sizes) > MOST:
        raise ModelError(
            field.name,
            f"a row of {field.name!r} has the shape {list(sizes)}, which is too large",
            "Export it with smaller fixed sizes.",
        )
    if field.datatype == "BYTES":
        return np.full(sizes, "0", object)  # a text that a graph may also read as a number
    rate = axis is None and RATE.match(field.name) and field.datatype.startswith(("INT", "UINT", "FP"))
    return np.full(sizes, RATE_HZ if rate else 0, field.dtype)
