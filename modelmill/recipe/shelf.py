"""Trained models of a run, kept for candidates that differ from theirs in what comes after training alone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from modelmill.model import Model

MOST_BYTES = 1_000_000_000
"""What a shelf may hold; the models that were used longest ago go first."""

LATE = "compress"
"""The stage whose settings training knows nothing of."""


@dataclass(frozen=True)
class Shelf:
    """A folder of models, shared by the workers of a run. A model that is not there is trained again, to the same bits.

    Only this process and its workers write there; a file that cannot be read counts as none.
    """

    folder: Path

    def get(self, key: str) -> Model | None:
        """The model of that key; None where there is none."""
        path = self.folder / key
        try:
            found = pickle.loads(path.read_bytes())
            os.utime(path)
        except Exception:  # noqa: BLE001 - whatever is wrong with a file, the model can be trained again
            return None
        return found if isinstance(found, Model) else None

    def put(self, key: str, model: Model) -> None:
        """Keep a model, if it can be: a live object need not be one that can be written."""
        with contextlib.suppress(OSError, pickle.PicklingError, TypeError, AttributeError):
            written = pickle.dumps(model, protocol=pickle.HIGHEST_PROTOCOL)
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = self.folder / f"{key}.{os.getpid()}.part"
            part.write_bytes(written)
            part.replace(self.folder / key)
            self._make_room()

    def _make_room(self) -> None:
        files = [(path.stat().st_mtime, path.stat().st_size, path) for path in self.folder.iterdir()]
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files, key=lambda row: row[0]):
            if total <= MOST_BYTES:
                return
            path.unlink(missing_ok=True)
            total -= size


def key_of(payload: Mapping[str, Any]) -> str:
    """What a training depends on within one run: its seed, and the settings of all that comes before its end."""
    early = {name: value for name, value in payload["settings"].items() if name.partition(".")[0] != LATE}
    told = msgspec.json.encode([early, payload["seed"], payload.get("epochs")], order="sorted")
    return hashlib.sha256(told).hexdigest()
