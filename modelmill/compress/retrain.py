"""What compressors that train again share: their settings, and the training itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from modelmill.contracts import Task
from modelmill.dataset import Splits
from modelmill.model import Model
from modelmill.trial import Progress

if TYPE_CHECKING:
    from modelmill.train.training import Objective, Training


@dataclass(frozen=True, kw_only=True)
class Retrains:
    """Settings of a training that comes after a change of the network; a compressor has them by deriving from this."""

    epochs: Annotated[int, Meta(ge=0)] = 20
    """Epochs of training again; 0 leaves the network as it was changed."""
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 2e-3
    """The largest step size of training again."""
    batch: Annotated[int, Meta(ge=2)] = 64
    """Rows a step of training again."""
    smoothing: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Label smoothing of training again."""
    shift: Annotated[int, Meta(ge=0)] = 0
    """Images are moved by up to so many pixels at random when training again; 0 is off."""
    seconds: Annotated[float, Meta(ge=0)] = 0.0
    """How long training again may take; 0 is no limit."""

    def training(
        self,
        model: Model,
        data: Splits,
        task: Task,
        seed: int,
        objective: Objective | None = None,
        warm: bool = True,
    ) -> Training:
        """The training of a changed network from its weights, not yet begun; one that was never trained is not warm."""
        from modelmill.train.recipe import Recipe
        from modelmill.train.training import Training

        return Training(model, data, task, Recipe.of("adam", self), seed, warm=warm, objective=objective)

    def retrained(
        self, model: Model, data: Splits, task: Task, seed: int, objective: Objective | None = None
    ) -> Iterator[Progress]:
        """Train a changed network again: one Progress an epoch, and a last one that holds the result."""
        training = self.training(model, data, task, seed, objective)
        yield from training.run()
        yield training.finish("retrain.adam")


@dataclass(frozen=True, kw_only=True)
class Guided(Retrains):
    """Settings of a training again that also listens to the model as it came in."""

    teacher: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """The share of the loss that is the distance to what the model said before; the rest comes from true targets."""
    temperature: Annotated[float, Meta(gt=0)] = 2.0
    """How much the probabilities of the teacher are softened."""
    mix: Annotated[float, Meta(ge=0)] = 0.0
    """Rows are blended in pairs by shares drawn from Beta(mix, mix) when training again; 0 is off."""

    def regained(self, before: Model, changed: Model, data: Splits, task: Task, seed: int) -> Iterator[Progress]:
        """Train a changed network again, guided by the model as it came in: as `retrained` does."""
        yield from self.retrained(changed, data, task, seed, self.guidance(before, data, task))

    def guidance(self, model: Model, data: Splits, task: Task) -> Objective | None:
        """The loss of a training that listens to the model; None where it does not."""
        from modelmill.compress.distill.student import objective, taught

        if not self.teacher:
            return None
        teacher = taught(model, data.train, task)
        return objective(teacher, bool(model.signature.classes), self.temperature, self.teacher)
