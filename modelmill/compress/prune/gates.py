"""Pruning of whole channels and neurons by gates that learn to close."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from msgspec import Meta

from modelmill.compress.retrain import Guided
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Gates(Compressor, Guided):
    """Train with a gate on every channel, whose being open costs, cut the closed ones, then retrain.

    How many channels go is for the training to say: the larger the penalty, the more. Where no gate closes, the model
    comes through as it was.

    Louizos et al. (2018), https://arxiv.org/abs/1712.01312
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    penalty: Annotated[float, Meta(ge=0)] = 1.0
    """What all weights together add to the loss while they are in use."""
    gate_epochs: Annotated[int, Meta(ge=1)] = 30
    """Epochs of training with gates."""
    gate_rate: Annotated[float, Meta(gt=0)] = 20.0
    """How many times as large the steps of gates are as those of weights."""
    start: Annotated[float, Meta(gt=0, lt=1)] = 0.9
    """How open gates are at first."""
    most: Annotated[float, Meta(gt=0, lt=1)] = 0.9
    """The largest share of its channels that a layer may lose, so that none is emptied."""
    multiple: Annotated[int, Meta(ge=1)] = 4
    """The number of channels that stay in a layer is rounded up to a multiple of this."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Train with gates, cut, and retrain a copy of the model."""
        from modelmill.compress.prune.channels import SEEN
        from modelmill.compress.prune.counts import phrases
        from modelmill.compress.prune.hard_concrete import expected, freed, gated, quicken
        from modelmill.compress.prune.penalty import penalized
        from modelmill.network.slicing import channels, kept, parameters
        from modelmill.train.average import refresh
        from modelmill.train.rows import rows, some

        groups = channels(model.body.value)
        least = [kept(group.width, self.most, self.multiple) for group in groups]
        if all(count == group.width for count, group in zip(least, groups, strict=True)):
            yield Progress(1, 1, note="nothing is removed: no layer has channels that can be cut", result=model)
            return
        said = phrases(model.body.value, groups, least)
        note = f"gates on {sum(group.width for group in groups)} channels; no layer may go further than {said}"
        yield Progress(0, self.gate_epochs, {"weights": parameters(model.body.value)}, note)
        ready = model.with_body(gated(model.body.value, self.start), "network", "")
        training = self.replace(epochs=self.gate_epochs).training(ready, data, task, seed)
        quicken(training, self.gate_rate)
        trained: Model = model
        for progress in penalized(training, lambda network: self.penalty * expected(network), "prune.gates"):
            trained = progress.result or trained
            yield Progress(progress.step, progress.total, progress.values, progress.note)
        network, counts = freed(trained.body.value, self.most, self.multiple)
        if all(count == group.width for count, group in zip(counts, groups, strict=True)):
            note = f"nothing is removed: no gates closed at a penalty of {self.penalty:g}"
            yield Progress(1, 1, note=note, result=model)
            return
        refresh(network, some(rows(model, data.train, task), SEEN).features)
        said = phrases(model.body.value, groups, counts)
        after = parameters(network)
        note = f"of {parameters(model.body.value)} weights {after} stay; {said}"
        yield Progress(0, self.epochs, {"weights": after}, note)
        changed = model.with_body(network, "network", f"prune.gates: {said}")
        yield from self.regained(model, changed, data, task, seed)
