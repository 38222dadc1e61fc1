"""A piece of an ONNX graph as plain values: operations in order, and their constants.

Preparation, bodies and tasks write operations with a Writer; `graph` turns the whole into one ONNX file. Nothing here
needs the onnx library.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

ML = "ai.onnx.ml"
"""The domain of ONNX's operators for classic machine learning."""


@dataclass(frozen=True)
class Op:
    """One operation: its ONNX type, the names of what goes in and comes out, its attributes and its domain."""

    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""


@dataclass(frozen=True, eq=False)
class Fragment:
    """Operations in the order in which they run, and the constants that they read."""

    ops: tuple[Op, ...] = ()
    constants: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)


class Writer:
    """Collects the operations and constants of one graph, and gives every value a name of its own.

    taken: names that are not to be given: those of the graph's raw inputs.
    """

    def __init__(self, start: Fragment | None = None, taken: Iterable[str] = ()) -> None:
        start = start or Fragment()
        self._ops: list[Op] = list(start.ops)
        self._constants: dict[str, np.ndarray[Any, Any]] = dict(start.constants)
        self._taken = {name for op in start.ops for name in (*op.inputs, *op.outputs)} | set(start.constants)
        self._taken.update(taken)
        self._once: dict[int, str] = {}

    def op(
        self, type: str, inputs: Sequence[str], attributes: Mapping[str, Any] | None = None, *, domain: str = ""
    ) -> str:
        """Add an operation with one output; the name of that output."""
        return self.ops(type, inputs, 1, attributes, domain=domain)[0]

    def ops(
        self,
        type: str,
        inputs: Sequence[str],
        outputs: int,
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
    ) -> tuple[str, ...]:
        """Add an operation with several outputs; their names."""
        made = tuple(self._name(type.lower()) for _ in range(outputs))
        self._ops.append(Op(type, tuple(inputs), made, dict(attributes or {}), domain))
        return made

    def rename(self, value: str, name: str) -> str:
        """Give a value a name that clients see, by an Identity."""
        self._ops.append(Op("Identity", (value,), (name,)))
        self._taken.add(name)
        return name

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Add a constant; its name. Lists of numbers become float32 or int64; strings stay strings."""
        array = np.asarray(value, dtype)
        if dtype is None and array.dtype == np.float64:
            array = array.astype(np.float32)
        name = self._name("constant")
        self._constants[name] = array
        return name

    def once(self, key: int, value: Any) -> str:
        """The name of a constant that several operations read: it is added when its key is first met."""
        if key not in self._once:
            self._once[key] = self.constant(value)
        return self._once[key]

    def fragment(self) -> Fragment:
        """What was written so far."""
        return Fragment(tuple(self._ops), dict(self._constants))

    def _name(self, stem: str) -> str:
        number = len(self._taken)
        while (name := f"{stem}_{number}") in self._taken:
            number += 1
        self._taken.add(name)
        return name
