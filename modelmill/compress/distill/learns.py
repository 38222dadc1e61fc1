"""What students share: the settings of learning from a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta


@dataclass(frozen=True, kw_only=True)
class Learns:
    """Settings of an untrained student: among the bases it comes before `Retrains`, and sets its defaults."""

    temperature: Annotated[float, Meta(gt=0)] = 2.0
    """How much the probabilities are softened."""
    share: Annotated[float, Meta(ge=0, le=1)] = 0.7
    """The weight of the soft labels; the rest goes to the true ones."""
    epochs: Annotated[int, Meta(ge=1)] = 60
    """Epochs of the student's training."""
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 0.01
    """The largest step size of the student's training."""
    schedule: Literal["cosine", "one_cycle", "step", "constant"] = "one_cycle"
    """How the step size moves over the student's training."""
    weight_decay: Annotated[float, Meta(ge=0, lt=1)] = 1e-2
    """How strongly weights are drawn to zero."""
    mix: Annotated[float, Meta(ge=0)] = 0.0
    """Mixup: rows are blended in pairs by shares drawn from Beta(mix, mix); 0 is off."""
