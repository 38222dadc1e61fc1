"""Distillation by soft labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Soft(Compressor):
    """Train a narrower network of the same architecture on the model's probabilities.

    Hinton, Vinyals & Dean (2015), https://arxiv.org/abs/1503.02531
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    ratio: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """The student's width as a share of the model's."""
    temperature: Annotated[float, Meta(gt=0)] = 3.0
    """How much the probabilities are softened."""
    share: Annotated[float, Meta(ge=0, le=1)] = 0.7
    """The weight of the soft labels; the rest goes to the true ones."""
    epochs: Annotated[int, Meta(ge=1)] = 60
    """Epochs of the student's training."""
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 0.01
    """The largest step size of the student's training."""
    schedule: Literal["cosine", "one_cycle", "step", "constant"] = "one_cycle"
    """How the step size moves over the student's training."""
    batch: Annotated[int, Meta(ge=2)] = 64
    """Rows a step."""
    weight_decay: Annotated[float, Meta(ge=0, lt=1)] = 1e-2
    """How strongly weights are drawn to zero."""
    shift: Annotated[int, Meta(ge=0)] = 0
    """Images are moved by up to so many pixels at random; 0 is off."""
    mix: Annotated[float, Meta(ge=0)] = 0.0
    """Mixup: rows are blended in pairs by shares drawn from Beta(mix, mix); 0 is off."""
    seconds: Annotated[float, Meta(ge=0)] = 0.0
    """How long the student's training may take; 0 is no limit."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Train a student; the model itself is left as found."""
        from modelmill.compress.distill.student import narrower, objective
        from modelmill.train.fit import Recipe, Training

        student = narrower(model, self.ratio, data.train, seed)
        teach = objective(model, data.train, task, self.temperature, self.share)
        training = Training(student, data, task, Recipe.of("adam", self), seed, objective=teach)
        yield Progress(0, self.epochs, note=student.history[-1])
        yield from training.run()
        yield training.finish("distill.soft")
