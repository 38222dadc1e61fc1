"""How much memory a process needs more once it serves a model."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Annotated, ClassVar

from msgspec import Meta

from modelmill.contracts import Cost, Measurements
from modelmill.dataset import Dataset
from modelmill.errors import ModelError
from modelmill.evaluate.costs.timing import batch, session
from modelmill.evaluate.costs.weigh import pack
from modelmill.method import ROOT


class Memory(Cost):
    """Megabytes (of a million bytes) by which a process grows that loads the model and answers with it.

    Each model gets a child process of its own that has ONNX Runtime loaded before it is weighed, then opens the model
    and runs one row and 32 rows. The model's own file is not counted: a service reads it from disk.
    """

    gives: ClassVar[tuple[str, ...]] = ("memory_mb",)

    timeout_s: Annotated[float, Meta(gt=0)] = 120.0
    """How long a child may take before it is ended."""

    def __call__(self, models: Sequence[bytes], data: Dataset) -> Measurements:
        """Megabytes, for every model."""
        return [{"memory_mb": self._weigh(model, data)} for model in models]

    def _weigh(self, model: bytes, data: Dataset) -> float:
        inputs = session(model).inputs
        parcel = pack(model, [batch(data, inputs, 0, 1), batch(data, inputs, 0, 32)])
        paths = os.pathsep.join(filter(None, [str(ROOT.parent), os.environ.get("PYTHONPATH", "")]))
        try:
            done = subprocess.run(
                [sys.executable, "-m", "modelmill.evaluate.costs.weigh"],
                input=parcel,
                capture_output=True,
                timeout=self.timeout_s,
                env={**os.environ, "PYTHONPATH": paths},
                check=True,
            )
        except subprocess.TimeoutExpired:
            raise ModelError("memory_mb", f"the child did not end within {self.timeout_s:g} s", "") from None
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            message = f"the child that loads the model ended with code {error.returncode}: {said[0]}"
            raise ModelError("memory_mb", message, "") from None
        return int(done.stdout) / 1e6
