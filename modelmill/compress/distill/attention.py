"""Distillation by what the model attends to."""

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


class Attention(Compressor, Learns, Retrains):
    """Train a narrower network that is active at the same places as the model.

    Maps of energy, the sum of squares over channels, are compared where both have as many pixels, steps or tokens. The
    hidden layers of an mlp have no places: there it is the rows of a batch over which the energy is spread.

    Zagoruyko & Komodakis (2017), https://arxiv.org/abs/1612.03928
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    ratio: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """The student's width as a share of the model's."""
    weight: Annotated[float, Meta(ge=0)] = 0.3
    """How much it counts beside the loss of the answers."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Train a student; the model itself is left as found."""
        from modelmill.compress.distill.hints import hinted
        from modelmill.compress.distill.kernels import attention
        from modelmill.compress.distill.student import narrower, objective, taught

        student = narrower(model, self.ratio, data.train, seed)
        teacher = taught(model, data.train, task)
        soft = objective(teacher, bool(model.signature.classes), self.temperature, self.share)
        training = self.training(student, data, task, seed, warm=False)
        steps = hinted(training, teacher, soft, attention, self.weight)
        yield Progress(0, self.epochs, note=student.history[-1])
        yield from steps
        yield training.finish("distill.attention")
