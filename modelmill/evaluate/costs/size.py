"""How many bytes are served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from modelmill.contracts import Cost, Measurements
from modelmill.dataset import Dataset


class Size(Cost):
    """Bytes of every file served, and the same in kilobytes of 1000 bytes.

    Preparation, body and decoding are one ONNX file, so its length is all that is served.
    """

    gives: ClassVar[tuple[str, ...]] = ("size_bytes", "size_kb")

    def __call__(self, models: Sequence[bytes], data: Dataset) -> Measurements:
        """Bytes and kilobytes, for every model."""
        return [{"size_bytes": len(model), "size_kb": len(model) / 1000} for model in models]
