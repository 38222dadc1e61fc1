"""What networks say of some rows on average, and how good that is."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from modelmill.contracts import Task
from modelmill.metrics.score import score
from modelmill.model import Model
from modelmill.train.answer import answers, forward
from modelmill.train.rows import Rows, Unit

LEAST = 1e-30
"""A probability of zero is taken for this one, so that it has a logarithm."""


def meant(raw: Tensor, classes: bool) -> Tensor:
    """What raw outputs (rows, outputs) say: probabilities, or values; float64, as many are added."""
    return raw.double().softmax(1) if classes else raw.double()


class Poll:
    """The sum of what networks say of some rows, where there are any; its state is one tensor and a count."""

    def __init__(self, model: Model, task: Task, rows: Rows | None, unit: Unit) -> None:
        self.model, self.task, self.rows, self.unit = model, task, rows, unit
        self.classes = bool(model.signature.classes)
        self.total = torch.zeros(1, dtype=torch.float64)
        self.count = 0

    def add(self, networks: Iterable[torch.nn.Module]) -> None:
        """Ask these networks too."""
        for network in networks:
            if self.rows is not None:
                self.total = self.total + meant(forward(network, self.rows.features), self.classes)
            self.count += 1

    def figures(self, label: str) -> dict[str, float]:
        """Loss and quality of the mean answer, as `LABEL_loss` and the like; nothing where nothing was answered."""
        if not self.count or self.rows is None:
            return {}
        mean = self.total / self.count
        raw = (mean.clamp_min(LEAST).log() if self.classes else mean).float()
        name = self.task.metrics[0]
        outputs = answers(raw.numpy() * self.unit.deviation + self.unit.mean, self.model)
        quality = score([name], outputs, self.rows.targets, self.model.signature.classes)[name]
        loss = float(self.task.loss(raw, self.rows.encoded, self.rows.weights, 0.0))
        return {f"{label}_loss": loss, f"{label}_{name}": quality}
