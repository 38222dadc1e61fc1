"""Pipelines that run: steps one after the other, each on the tensors of those before it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from modelmill.contracts import Array
from modelmill.errors import ModelError
from modelmill.pipeline import Step
from modelmill.runtime.session import Session, Stop
from modelmill.signature import Signature

Run = Callable[[str, Mapping[str, Array], tuple[str, ...], Stop | None], dict[str, Array]]
"""Runs the model of a step, NAME@NUMBER: the outputs that are named, by name."""


class Through:
    """Runs the steps of a pipeline on the thread that asks; threads may share it."""

    def __init__(self, steps: Sequence[Step], model: Run) -> None:
        self.steps = steps
        self.model = model

    def run(
        self, columns: Mapping[str, Array], outputs: Sequence[str] | None = None, stop: Stop | None = None
    ) -> dict[str, Array]:
        """The outputs by name, for columns by name; every tensor there is where none are named.

        Raises MillError where a step cannot be had, fails, or is stopped.
        """
        tensors = dict(columns)
        for step in self.steps:
            found = self.model(step.model, step.given(tensors), tuple(step.outputs), stop)
            tensors.update(step.made(found))
        return tensors if outputs is None else {name: tensors[name] for name in outputs}


@dataclass(frozen=True, eq=False)
class Chain:
    """A pipeline whose graphs are all here.

    graphs: of every model that a step names. signature: of the whole.
    """

    steps: tuple[Step, ...]
    graphs: Mapping[str, bytes]
    signature: Signature


class ChainSession:
    """The sessions of a chain, to be asked as the one of a graph is: it lives as long, and threads may share it.

    Raises ModelError, naming the step, where a graph cannot be loaded.
    """

    def __init__(self, chain: Chain) -> None:
        self._sessions: dict[str, Session] = {}
        for reference, graph in chain.graphs.items():
            with _named(reference):
                self._sessions[reference] = Session(graph)
        self._through = Through(chain.steps, self._model)
        signature = chain.signature
        self.inputs = [field.name for field in signature.inputs]
        self.outputs = [field.name for field in signature.outputs]
        self.shapes = {field.name: field.shape for field in signature.inputs}
        self.axes = {field.name: field.axis for field in (*signature.inputs, *signature.outputs)}

    def run(
        self, columns: Mapping[str, Array], outputs: Sequence[str] | None = None, stop: Stop | None = None
    ) -> dict[str, Array]:
        """As of a `Session`. Raises ModelError, naming the step that cannot be run, or was stopped."""
        return self._through.run(columns, self.outputs if outputs is None else outputs, stop)

    def _model(
        self, reference: str, given: Mapping[str, Array], names: tuple[str, ...], stop: Stop | None
    ) -> dict[str, Array]:
        with _named(reference):
            return self._sessions[reference].run(given, names, stop)


@contextmanager
def _named(reference: str) -> Iterator[None]:
    """Have a failure say which step it is."""
    try:
        yield
    except ModelError as error:
        raise ModelError(reference, error.message, error.hint) from error


Program = bytes | Chain
"""What a version runs: a graph, or the graphs of a pipeline."""

Opened = Session | ChainSession
"""What answers for it."""


def opened(program: Program) -> Opened:
    """The session, or the sessions, of a program. Raises ModelError where it cannot be loaded."""
    return ChainSession(program) if isinstance(program, Chain) else Session(program)


def digest(program: Program) -> str:
    """What no other program has: a pipeline has another one where a step is of another version, or wired otherwise."""
    if not isinstance(program, Chain):
        return hashlib.sha256(program).hexdigest()
    graphs = {reference: hashlib.sha256(graph).hexdigest() for reference, graph in program.graphs.items()}
    outputs = [field.name for field in program.signature.outputs]
    return hashlib.sha256(msgspec.json.encode([program.steps, outputs, graphs], order="sorted")).hexdigest()


def size_bytes(program: Program) -> int:
    """The bytes of all graphs."""
    return sum(map(len, program.graphs.values())) if isinstance(program, Chain) else len(program)
