"""Distillation of a small model into a larger one."""

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


class Larger(Compressor, Learns, Retrains):
    """Train a wider network that begins as the model, and hears its probabilities beside the true labels.

    It gives up size and speed for quality: for a model that was made too small, before other steps make it smaller
    elsewhere.

    Chen, Goodfellow & Shlens (2016), https://arxiv.org/abs/1511.05641
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    factor: Annotated[float, Meta(gt=1, le=16)] = 2.0
    """How many times wider it is than the model."""
    noise: Annotated[float, Meta(ge=0, le=1)] = 0.05
    """How far copies of a channel begin apart, in standard deviations of the layer's weights."""
    share: Annotated[float, Meta(ge=0, le=1)] = 0.3
    """The weight of the soft labels; the rest goes to the true ones."""
    epochs: Annotated[int, Meta(ge=0)] = 40
    """Epochs of training; 0 leaves the wider network as it begins."""
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 5e-3
    """The largest step size of training."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Train a wider copy; the model itself is left as found."""
        from modelmill.compress.distill.student import objective, taught, wider
        from modelmill.network.slicing import parameters

        student = wider(model, self.factor, data.train, self.noise, seed)
        before, after = parameters(model.body.value), parameters(student.body.value)
        if after == before:
            yield Progress(1, 1, note="nothing is made wider: the network has no hidden channels", result=model)
            return
        note = f"a student of {after} weights begins as the model of {before}: larger and slower, perhaps better"
        yield Progress(0, self.epochs, {"weights": after}, note)
        teacher = taught(model, data.train, task)
        teach = objective(teacher, bool(model.signature.classes), self.temperature, self.share)
        training = self.training(student, data, task, seed, teach)
        yield from training.run()
        yield training.finish("distill.larger")
