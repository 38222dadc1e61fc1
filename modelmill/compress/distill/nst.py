"""Distillation by what neurons react to."""

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


class Nst(Compressor, Learns, Retrains):
    """Train a narrower network whose neurons react to the same places as the model's.

    The two distributions of neurons are brought together by a polynomial kernel. Places are pixels, steps or tokens; in
    the hidden layers of an mlp, the rows of a batch.

    Huang & Wang (2017), https://arxiv.org/abs/1707.01219
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    ratio: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """The student's width as a share of the model's."""
    weight: Annotated[float, Meta(ge=0)] = 1.0
    """How much it counts beside the loss of the answers."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Train a student; the model itself is left as found."""
        from modelmill.compress.distill.hints import hinted
        from modelmill.compress.distill.kernels import selectivity
        from modelmill.compress.distill.student import narrower, objective, taught

        student = narrower(model, self.ratio, data.train, seed)
        teacher = taught(model, data.train, task)
        soft = objective(teacher, bool(model.signature.classes), self.temperature, self.share)
        training = self.training(student, data, task, seed, warm=False)
        steps = hinted(training, teacher, soft, selectivity, self.weight)
        yield Progress(0, self.epochs, note=student.history[-1])
        yield from steps
        yield training.finish("distill.nst")
