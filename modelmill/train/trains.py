"""Settings that the trainers of networks share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta


@dataclass(frozen=True, kw_only=True)
class Trains:
    """Settings of a training by gradient steps, whatever the steps are; a trainer has them by deriving from this."""

    epochs: Annotated[int, Meta(ge=1)] = 60
    """How often every training row is seen, at most."""
    batch: Annotated[int, Meta(ge=2)] = 64
    """Rows a step."""
    warmup: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    """The share of steps in which the step size rises from zero."""
    plateau_patience: Annotated[int, Meta(ge=1)] = 5
    """Schedule "plateau": epochs without a lower validation loss after which the step size is reduced."""
    plateau_factor: Annotated[float, Meta(gt=0, lt=1)] = 0.3
    """Schedule "plateau": what the step size is multiplied by."""
    patience: Annotated[int, Meta(ge=0)] = 20
    """Epochs without a better validation quality after which training ends; 0 trains to the end."""
    smoothing: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Label smoothing: the share of each target that is spread over all classes."""
    focal: Annotated[float, Meta(ge=0, le=10)] = 0.0
    """Focal loss: how much less a row counts that is answered well already (gamma); for classes, 0 is off."""
    clip: Annotated[float, Meta(ge=0)] = 1.0
    """The largest norm of a step's gradient; 0 leaves gradients as they are."""
    class_weights: Literal["none", "balanced"] = "none"
    """"balanced" weighs rows of rare classes more, so that every class counts the same."""
    average: Annotated[float, Meta(ge=0, lt=1)] = 0.99
    """Decay of the running average of weights that is kept as the result; 0 keeps the last weights."""
    swa: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """The share of epochs, the last ones, whose mean weights are kept as the result (SWA), all trained; 0 is off."""
    swa_rate: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """The constant step size of those epochs, as a share of the learning rate."""
    augment: tuple[dict[str, Any], ...] = ()
    """Tables of augmentations, which every batch goes through in this order."""
    mix: Annotated[float, Meta(ge=0)] = 0.0
    """Mixup: rows are blended in pairs by shares drawn from Beta(mix, mix); 0 is off."""
    shift: Annotated[int, Meta(ge=0)] = 0
    """Images are moved by up to so many pixels at random; 0 is off."""
    flip: bool = False
    """Images are mirrored left to right at random."""
    seconds: Annotated[float, Meta(ge=0)] = 0.0
    """How long training may take: the schedule is shortened to fit; 0 is no limit."""
