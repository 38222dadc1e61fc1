"""Distillation among students that learn together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest
from typing import Annotated, ClassVar

from msgspec import Meta

from modelmill.compress.distill.learns import Learns
from modelmill.compress.retrain import Retrains
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Mutual(Compressor, Learns, Retrains):
    """Train several narrower networks at once, each on the true labels and the mean of what the others say.

    The best of them on the validation rows is given, without validation rows the last. They take turns by epochs, so
    that each hears the others as they were at the end of their last one; Zhang et al. take turns by batches. Peers that
    lag behind teach as well: Anil et al. (2018), https://arxiv.org/abs/1804.03235.

    Zhang, Xiang, Hospedales & Lu (2018), https://arxiv.org/abs/1706.00384
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    ratio: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """The students' width as a share of the model's."""
    students: Annotated[int, Meta(ge=2, le=8)] = 2
    """How many learn together."""
    teacher: bool = True
    """Whether the model is one more peer, which no longer learns; in the paper there is none."""
    temperature: Annotated[float, Meta(gt=0)] = 1.0
    """How much the probabilities are softened."""
    share: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """The weight of what the others say; the rest goes to the true labels."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Train the students; the model itself is left as found."""
        from modelmill.compress.distill.student import best, narrower, objective, peers, taught

        numbers, classes = range(self.students), bool(model.signature.classes)
        born = [narrower(model, self.ratio, data.train, seed + number) for number in numbers]
        yield Progress(0, self.epochs, note=f"{self.students} students learn together; {born[0].history[-1]}")
        settings = self.replace(seconds=self.seconds / self.students)
        learning = [settings.training(born[n], data, task, seed + n, warm=False) for n in numbers]
        fixed = [taught(model, data.train, task)] if self.teacher else []
        for number in numbers:
            others = [training.averaged.module for training in learning if training is not learning[number]]
            mean = peers([*others, *fixed], classes, self.temperature)
            learning[number].objective = objective(mean, classes, self.temperature, self.share)
        for turn in zip_longest(*(training.run() for training in learning)):
            yield next(progress for progress in turn if progress is not None)
        ends = [training.finish("distill.mutual") for training in learning]
        chosen = best([end.result for end in ends if end.result is not None], judge)
        why = "the best on validation rows" if data.valid.rows else "without validation rows to judge by"
        yield replace(ends[chosen], note=f"student {chosen + 1} of {self.students}: {why}")
