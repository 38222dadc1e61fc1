"""Distillation by how rows resemble each other."""

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


class Similarity(Compressor, Learns, Retrains):
    """Train a narrower network to which the same rows look alike as to the model.

    Whatever the number of channels, a hidden layer makes one similarity of every pair of rows in a batch.

    Tung & Mori (2019), https://arxiv.org/abs/1907.09682
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    ratio: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """The student's width as a share of the model's."""
    weight: Annotated[float, Meta(ge=0)] = 100.0
    """How much it counts beside the loss of the answers."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Train a student; the model itself is left as found."""
        from modelmill.compress.distill.hints import hinted
        from modelmill.compress.distill.kernels import similarity
        from modelmill.compress.distill.student import narrower, objective, taught

        student = narrower(model, self.ratio, data.train, seed)
        teacher = taught(model, data.train, task)
        soft = objective(teacher, bool(model.signature.classes), self.temperature, self.share)
        training = self.training(student, data, task, seed, warm=False)
        steps = hinted(training, teacher, soft, similarity, self.weight)
        yield Progress(0, self.epochs, note=student.history[-1])
        yield from steps
        yield training.finish("distill.similarity")
