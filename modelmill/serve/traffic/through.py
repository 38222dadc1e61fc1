"""A pipeline as something that runs: the session of each step, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from modelmill.pipeline import Step
from modelmill.runtime.session import Stop
from modelmill.serve.models.endpoint import Endpoint

Array = np.ndarray[Any, Any]


class Through:
    """Runs the steps of a pipeline on the thread that asks, each on the tensors of those before it."""

    def __init__(self, steps: Sequence[Step], held: Callable[[str], Endpoint]) -> None:
        self.steps = steps
        self.held = held

    def run(
        self, columns: Mapping[str, Array], outputs: tuple[str, ...] | None = None, stop: Stop | None = None
    ) -> dict[str, Array]:
        """The outputs of the whole. Raises MillError where a step cannot be had, fails, or is stopped."""
        tensors = dict(columns)
        for step in self.steps:
            given = {name: tensors[tensor] for name, tensor in step.inputs.items()}
            found = self.held(step.model).lane.session.run(given, tuple(step.outputs), stop)
            tensors.update({tensor: found[name] for name, tensor in step.outputs.items()})
        return {name: tensors[name] for name in outputs} if outputs is not None else tensors
