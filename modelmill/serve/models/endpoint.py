"""A version that answers requests: loaded, run on an example, and timed."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from time import monotonic
from typing import Any

import numpy as np

from modelmill.errors import ModelError
from modelmill.pipeline import Step
from modelmill.runtime import rows
from modelmill.runtime.pieces import rows_of_a_call
from modelmill.runtime.session import Session, Stop
from modelmill.serve.engine.lane import Lane, Meter
from modelmill.serve.engine.pace import Pace, measure
from modelmill.serve.request import Expected
from modelmill.signature import Field, Signature
from modelmill.version import Version

Array = np.ndarray[Any, Any]

FILE = "model.onnx"
"""The file of a version that is run."""


@dataclass(eq=False)
class Endpoint:
    """One version that answers: its signature, and its lane in the engine; and whether it is in use."""

    version: Version
    lane: Lane
    used: float = field(default_factory=monotonic)
    """When it was last asked for, on the clock of this process."""
    in_flight: int = 0
    """Requests that wait for it or run on it; what runs at once on the loop is not counted."""
    steps: tuple[Step, ...] = ()
    """Of a pipeline, whose lane runs nothing itself."""
    warming: bool = False
    """Whether the session of full speed is still to come: how long it takes now says nothing of the version."""
    twin: weakref.ref[Session] | None = None
    """A spare session on which no request runs, as long as there is one."""

    @property
    def name(self) -> str:
        """The model's name."""
        return self.version.name

    @property
    def number(self) -> int:
        """The version's number."""
        return self.version.number

    @cached_property
    def label(self) -> str:
        """The number as text, as figures and answers have it."""
        return str(self.version.number)

    @property
    def signature(self) -> Signature:
        """What goes in and out."""
        return self.version.signature

    @cached_property
    def expected(self) -> Expected:
        """What its requests are checked against."""
        return Expected(self.signature)

    def shrink(self) -> None:
        """Let the sessions go of the memory that their largest runs needed; each costs a run of one row."""
        for session in (self.lane.session, self.twin and self.twin()):
            if isinstance(session, Session):
                with suppress(ModelError):
                    session.shrink(example(self.signature))

    @property
    def is_open(self) -> bool:
        """Whether a failure may be the request's: sizes beside the rows, texts or places are left to the client."""
        return any(-1 in field.row or _names_a_place(field) for field in self.signature.inputs)


def _names_a_place(field: Field) -> bool:
    """Whether a value may be one that a graph looks up, or takes for a size: a text, or an integer."""
    return field.datatype == "BYTES" or ("INT" in field.datatype and field.kind != "date")


Record = Callable[[str, str], Meter]
"""Where the figures of the runs of a model's version go; asked on the loop."""


UNKNOWN = Pace(math.inf, 0.0)
"""How long a run takes of which nothing is known."""


def load(version: Version, onnx: bytes, record: Record) -> Endpoint:
    """A version with its session, run on an example and timed. Raises ModelError if it does not run."""
    session = Session(onnx)
    return of(version, session, timed(session, version.signature, hurried=True), record)


def of(version: Version, session: Session, pace: Pace, record: Record) -> Endpoint:
    """The endpoint of a version with a session that has a pace."""
    signature = version.signature
    is_open = any(-1 in field.row for field in signature.inputs)
    metered = partial(record, version.name, str(version.number))
    return Endpoint(version, Lane(session, pace, batches(signature), metered, is_open))


def batches(signature: Signature) -> bool:
    """Whether rows of several requests may share a run: the rows' axis is variable everywhere, and they are apart."""
    apart = all(field.axis == 0 and field.rows < 0 for field in (*signature.inputs, *signature.outputs))
    return apart and not signature.series


class Nothing:
    """The session of a pipeline: its steps have their own."""

    def run(
        self, columns: Mapping[str, Array], outputs: tuple[str, ...] | None = None, stop: Stop | None = None
    ) -> dict[str, Array]:
        """Never asked."""
        raise ModelError("the pipeline", "is run step by step", "")


def joined(version: Version, steps: tuple[Step, ...], record: Record) -> Endpoint:
    """A pipeline: it is run by the lanes of its steps, and counted by its own."""
    lane = Lane(Nothing(), Pace(math.inf, 0.0), False, partial(record, version.name, str(version.number)))
    return Endpoint(version, lane, steps=steps)


def timed(session: Session, signature: Signature, hurried: bool = False) -> Pace:
    """How long a run takes; forever, as far as we know, where no row is known that the model takes.

    hurried: whether somebody waits for it.
    """
    try:
        return measure(session, example(signature), batches(signature), hurried)
    except ModelError:
        if signature.example or not any(-1 in field.row for field in signature.inputs):
            raise
        return UNKNOWN


def example(signature: Signature) -> Mapping[str, Array]:
    """Columns of one row, or of as many as a call has: the signature's example, or zeros."""
    if signature.example:
        count = max(rows_of_a_call(signature.inputs), 1)
        columns: Mapping[str, Array] = rows.to_columns([list(signature.example)] * count, signature)
        return columns
    return {field.name: _zeros(field) for field in signature.inputs}


def _zeros(field: Field) -> Array:
    shape = tuple(1 if size < 0 else size for size in field.shape)
    return np.full(shape, "", object) if field.datatype == "BYTES" else np.zeros(shape, field.dtype)
