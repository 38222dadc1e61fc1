"""Distillation into a part of the model itself."""

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


class Parameters(Compressor, Learns, Retrains):
    """Train a student that begins with a part of the model's weights on the model's probabilities.

    Of the blocks that can go every k-th one stays, and of the channels of every layer those with the largest weights:
    the student need not begin from nothing, and takes fewer epochs.

    Sanh et al. (2019), https://arxiv.org/abs/1910.01108, section 3
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    ratio: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """The student's width as a share of the model's."""
    every: Annotated[int, Meta(ge=1)] = 2
    """Of the blocks and layers that can go, the first of so many stays; with 1 all do."""
    multiple: Annotated[int, Meta(ge=1)] = 1
    """The number of channels that stay is rounded up to a multiple of this."""
    epochs: Annotated[int, Meta(ge=0)] = 30
    """Epochs of the student's training; 0 leaves it with the weights that it was given."""
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 5e-3
    """The largest step size of the student's training."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Train a student; the model itself is left as found."""
        import copy

        from modelmill.compress.distill.student import objective, taught
        from modelmill.network.slicing import kept, parameters, prune, removable, without

        blocks = len(removable(model.body.value))
        stay = [place % self.every == 0 for place in range(blocks)]
        network = without(copy.deepcopy(model.body.value), stay)
        cut = prune(network, lambda group: kept(group.width, 1 - self.ratio, self.multiple), "l2")
        said = [*([f"{sum(stay)} of {blocks} blocks"] if not all(stay) else []), *cut]
        if not said:
            yield Progress(
                1, 1, note="nothing is left out: there is no smaller student of these settings", result=model
            )
            return
        before, after = parameters(model.body.value), parameters(network)
        note = f"the student begins with {after} of {before} weights: {', '.join(said)}"
        yield Progress(0, self.epochs, {"weights": after}, note)
        student = model.with_body(network, "network", f"a student of {', '.join(said)}")
        teacher = taught(model, data.train, task)
        teach = objective(teacher, bool(model.signature.classes), self.temperature, self.share)
        training = self.training(student, data, task, seed, teach)
        yield from training.run()
        yield training.finish("distill.parameters")
