"""How many bytes the store keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from modelmill.contracts import Cost, Measurements
from modelmill.dataset import Dataset
from modelmill.store.packing.packed import stored


class Stored(Cost):
    """Bytes of the model's file as the store keeps it: packed where that is worth it, with all tables.

    A service expands it when it loads the model; `size_bytes` is what it then serves.
    """

    gives: ClassVar[tuple[str, ...]] = ("stored_bytes", "stored_kb")

    def __call__(self, models: Sequence[bytes], data: Dataset) -> Measurements:
        """Bytes and kilobytes, for every model."""
        sizes = [len(stored(model)) for model in models]
        return [{"stored_bytes": size, "stored_kb": size / 1000} for size in sizes]
