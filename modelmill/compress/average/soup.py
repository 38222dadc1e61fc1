"""The average of several short trainings of one model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, ClassVar

from msgspec import Meta

from modelmill.compress.retrain import Retrains
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Soup(Compressor, Retrains):
    """Average the weights of several short trainings that start from the model: no larger, and often better.

    They differ in their seeds and step sizes. From the best on, each one is put in where the average is no worse on the
    validation rows with it; the model itself is one of them. Without validation rows all are averaged. Batch norms are
    settled anew on training rows.

    Wortsman et al. (2022), https://arxiv.org/abs/2203.05482, recipe 1
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    count: Annotated[int, Meta(ge=1, le=32)] = 4
    """How many trainings there are."""
    epochs: Annotated[int, Meta(ge=0)] = 8
    """Epochs of each training; 0 leaves nothing to average."""
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 1e-3
    """The largest step size; of three trainings one takes it, one half of it and one its double."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Train copies of the model and average them."""
        if not self.epochs:
            yield Progress(1, 1, note="nothing to average: no epochs are trained", result=model)
            return
        from modelmill.compress.average.mixing import greedy, settling

        total = self.count * self.epochs
        yield Progress(0, total, note=f"{self.count} trainings of {self.epochs} epochs from the same weights")
        found = [model]
        for number in range(self.count):
            rate = min(1.0, self.learning_rate * (1.0, 0.5, 2.0)[number % 3])
            settings = self.replace(learning_rate=rate, seconds=self.seconds / self.count)
            training = settings.training(model, data, task, seed + number)
            for progress in training.run():
                yield replace(progress, step=number * self.epochs + progress.step, total=total)
            last = training.finish("average.soup")
            assert last.result is not None, "a training that has finished has a result"
            found.append(last.result)
        soup = greedy(found, judge, settling(model, data.train, task))
        note = f"the average of {soup.count} of {len(found)}, the model among them{soup.told}"
        result = model if soup.untouched else model.with_body(soup.module, "network", f"average.soup: {note}")
        yield Progress(total, total, {"averaged": float(soup.count)}, note, result)
