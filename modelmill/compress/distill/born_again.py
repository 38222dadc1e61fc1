"""Distillation of a model into its like, again and again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, ClassVar

from msgspec import Meta

from modelmill.compress.distill.learns import Learns
from modelmill.compress.retrain import Retrains
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class BornAgain(Compressor, Learns, Retrains):
    """Train a network of the same architecture on the model's probabilities, then the next one on that one's.

    It makes nothing smaller; it is for quality. The best generation on the validation rows is given, the model itself
    among them; without validation rows the last one is.

    Furlanello et al. (2018), https://arxiv.org/abs/1805.04770
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    generations: Annotated[int, Meta(ge=1, le=16)] = 2
    """How often a student becomes the teacher of the next one, the first included."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Train the generations one after the other; the model itself is left as found."""
        from modelmill.compress.distill.student import best, narrower, objective, taught

        total = self.epochs * self.generations
        born = [narrower(model, 1.0, data.train, seed + number + 1) for number in range(self.generations)]
        yield Progress(0, total, note=f"{self.generations} generations of the same size: no smaller and no faster")
        line, settings = [model], self.replace(seconds=self.seconds / self.generations)
        for number, student in enumerate(born):
            teacher = taught(line[-1], data.train, task)
            teach = objective(teacher, bool(model.signature.classes), self.temperature, self.share)
            training = settings.training(student, data, task, seed + number, teach, warm=False)
            for progress in training.run():
                yield replace(progress, step=number * self.epochs + progress.step, total=total)
            last = training.finish(f"distill.born_again, generation {number + 1}")
            assert last.result is not None, "a training that has finished has a result"
            line.append(last.result)
        chosen = best(line, judge)
        said = f"generation {chosen} of {self.generations}" if chosen else "no generation was better than the model"
        yield Progress(total, total, last.values, said, line[chosen])
