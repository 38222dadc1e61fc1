"""Distillation by soft labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta

from modelmill.compress.distill.learns import Learns
from modelmill.compress.retrain import Retrains
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress

if TYPE_CHECKING:
    from modelmill.train.training import Training


class Soft(Compressor, Learns, Retrains):
    """Train a narrower network of the same architecture on the model's probabilities.

    A graph, a file from elsewhere for one, is asked once for every training row, as it is before any augmentation; its
    student is a network of `arch`, with a preparation that is fitted anew.

    Hinton, Vinyals & Dean (2015), https://arxiv.org/abs/1503.02531
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network", "graph"})
    gives: ClassVar[Kind | None] = "network"

    ratio: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """The student's width as a share of the model's; of no use where the model is a graph."""
    arch: dict[str, Any] = {}
    """The student's arch where the model is a graph; empty for a cnn on images, and an mlp on all else."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Train a student; the model itself is left as found."""
        graph = model.body.kind == "graph"
        training = self._of_graph(model, data, task, seed) if graph else self._of_network(model, data, task, seed)
        yield Progress(0, self.epochs, note=training.model.history[-1])
        yield from training.run()
        yield training.finish("distill.soft")

    def _of_network(self, model: Model, data: Splits, task: Task, seed: int) -> Training:
        from modelmill.compress.distill.student import narrower, objective, taught

        student = narrower(model, self.ratio, data.train, seed)
        teach = objective(taught(model, data.train, task), bool(model.signature.classes), self.temperature, self.share)
        return self.training(student, data, task, seed, teach, warm=False)

    def _of_graph(self, model: Model, data: Splits, task: Task, seed: int) -> Training:
        from modelmill.compress.distill.anew import untrained
        from modelmill.compress.distill.labels import targets
        from modelmill.compress.distill.merging import taught_by

        student = untrained(model, self.arch, data.train, seed)
        training = self.training(student, data, task, seed, warm=False)
        taught_by(training, targets(model, data.train, task, self.share, self.temperature))
        return training
