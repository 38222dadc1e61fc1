"""Compute what an imported file computes, whatever that means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NoReturn

import numpy as np

from modelmill.contracts import Array, Outputs, Task
from modelmill.errors import SpecError
from modelmill.fragment import Writer
from modelmill.signature import Field, Signature


class Compute(Task):
    """The outputs that the file gives, under their own names: the task of an imported model of unknown meaning.

    There is no truth to learn, only a model to agree with: the target of a row is that model's answer to it, as
    `taught` packs it, and quality is `agreement`. Nothing is trained from raw data for this task.
    """

    metrics: tuple[str, ...] = ("agreement",)
    """The metrics that are told; the first is the goal where none is asked for."""
    outputs: ClassVar[tuple[str, ...]] = ()

    def declare(self, classes: Sequence[Any]) -> tuple[Field, ...]:
        """Refused: the outputs are those of the file."""
        self._refuse()

    def width(self, classes: Sequence[Any]) -> int:
        """Refused: a body of ours gives one label or one value."""
        self._refuse()

    def encode(self, target: Array, classes: Sequence[Any]) -> Array:
        """Refused, as `width` is."""
        self._refuse()

    def loss(self, raw: Any, encoded: Any, weights: Any | None, smoothing: float, focal: float = 0.0) -> Any:
        """Refused, as `width` is."""
        self._refuse()

    def decode(self, raw: str, form: str, signature: Signature, writer: Writer) -> None:
        """Refused, as `width` is."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        message = "compute is what an imported file does, and nothing that a body of ours is trained for"
        raise SpecError("task", message, "Say what the outputs are: classify or regress.")


def taught(outputs: Outputs) -> Array:
    """(rows,) a model's answers as the targets of another: a record a row, with a field an output.

    >>> taught({"y": np.array([[0.5], [2.0]], np.float32)})["y"].shape
    (2, 1)
    """
    plain = {name: values.astype(str) if values.dtype == object else values for name, values in outputs.items()}
    rows = len(next(iter(plain.values())))
    target = np.empty(rows, [(name, values.dtype, values.shape[1:]) for name, values in plain.items()])
    for name, values in plain.items():
        target[name] = values
    return target
