"""Distillation by soft labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from msgspec import Meta

from modelmill.compress.distill.learns import Learns
from modelmill.compress.retrain import Retrains
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Soft(Compressor, Learns, Retrains):
    """Train a narrower network of the same architecture on the model's probabilities.

    Hinton, Vinyals & Dean (2015), https://arxiv.org/abs/1503.02531
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    ratio: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """The student's width as a share of the model's."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Train a student; the model itself is left as found."""
        from modelmill.compress.distill.student import narrower, objective, taught

        student = narrower(model, self.ratio, data.train, seed)
        teach = objective(taught(model, data.train, task), bool(model.signature.classes), self.temperature, self.share)
        training = self.training(student, data, task, seed, teach, warm=False)
        yield Progress(0, self.epochs, note=student.history[-1])
        yield from training.run()
        yield training.finish("distill.soft")
