"""Tell a number for every row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from modelmill.contracts import Array, Task
from modelmill.errors import ModelError
from modelmill.fragment import Writer
from modelmill.signature import Field, Signature


class Regress(Task):
    """One value for every row, in the unit of the target.

    Output: `value` (rows,). Taught by the squared error.

    >>> Regress().encode(np.array([1, 2]), ()).dtype
    dtype('float32')
    """

    metrics: tuple[str, ...] = ("r2", "rmse", "mae", "pearson")
    """The metrics that are told; the first is the goal where none is asked for."""
    outputs: ClassVar[tuple[str, ...]] = ("value",)

    def declare(self, classes: Sequence[Any]) -> tuple[Field, ...]:
        """One float a row."""
        return (Field("value", "FP32", (-1,)),)

    def width(self, classes: Sequence[Any]) -> int:
        """One number."""
        return 1

    def encode(self, target: Array, classes: Sequence[Any]) -> Array:
        """(rows,) float32 values as they are."""
        return np.asarray(target, np.float32)

    def loss(self, raw: Any, encoded: Any, weights: Any | None, smoothing: float, focal: float = 0.0) -> Any:
        """Mean squared error; smoothing and focus mean nothing here."""
        each = (raw.reshape(-1) - encoded.reshape(-1)) ** 2
        return each.mean() if weights is None else (each * weights).sum() / weights.sum().clamp_min(1e-12)

    def decode(self, raw: str, form: str, signature: Signature, writer: Writer) -> None:
        """The body's (rows, 1) without its second axis."""
        if form == "probabilities":
            raise ModelError("task/regress", "the body gives probabilities", "Use a body that regresses.")
        writer.rename(writer.op("Reshape", [raw, writer.constant([-1], np.int64)]), "value")
