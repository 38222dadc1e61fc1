"""Distillation of two models into one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from msgspec import Meta

from modelmill.compress.distill.learns import Learns
from modelmill.compress.retrain import Retrains
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.errors import ModelError
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Merge(Compressor, Learns, Retrains):
    """Train one network on the mean of what the model and another one say.

    The other may be of any arch and any preparation, a forest or a quantized graph: it is asked once for every training
    row, as it is before any augmentation. It must know the same classes and take columns that the data have.

    You, Xu, Xu & Tao (2017), https://doi.org/10.1145/3097983.3098135
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    model: str
    """The second teacher: NAME, NAME@3 or NAME@alias."""
    weight: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    """What the second teacher counts in the mean; the model counts the rest."""
    ratio: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """The student's width as a share of the model's."""
    temperature: Annotated[float, Meta(gt=0)] = 1.0
    """How much the mean of the probabilities is softened."""

    def __call__(
        self, model: Model, data: Splits, task: Task, judge: Judge, seed: int, other: Model | None = None
    ) -> Iterator[Progress]:
        """Train a student; both models are left as found. `other` is the model that the setting names."""
        if other is None:
            message = f"the model {self.model!r} is named, and was not brought"
            raise ModelError("compress.distill.merge", message, "Call it with the model as `other`.")
        from modelmill.compress.distill.merging import merged, taught_by
        from modelmill.compress.distill.student import narrower

        student = narrower(model, self.ratio, data.train, seed)
        labels = merged(model, other, data.train, task, self.weight, self.temperature, self.share)
        training = self.training(student, data, task, seed, warm=False)
        taught_by(training, labels)
        yield Progress(0, self.epochs, note=f"a student of two teachers, the model and {self.model}")
        yield from training.run()
        yield training.finish("distill.merge")
