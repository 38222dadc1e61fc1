"""How a network is trained, as one value: what the trainers and the retraining compressors hand to `fit`."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from modelmill.augment.geometric import Geometric
from modelmill.augment.mixup import Mixup
from modelmill.contracts import Augmentation
from modelmill.method import decode

Schedule = Literal["cosine", "one_cycle", "step", "plateau", "constant"]


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one training; what each means is said in `trainers/adam.py`."""

    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 3e-3
    momentum: float = 0.9
    epochs: int = 60
    batch: int = 64
    weight_decay: float = 0.0
    decoupled: bool = True
    schedule: Schedule = "cosine"
    warmup: float = 0.1
    plateau_patience: int = 5
    plateau_factor: float = 0.3
    patience: int = 0
    smoothing: float = 0.0
    focal: float = 0.0
    clip: float = 1.0
    class_weights: Literal["none", "balanced"] = "none"
    average: float = 0.99
    swa: float = 0.0
    swa_rate: float = 0.5
    augment: tuple[dict[str, Any], ...] = ()
    mix: float = 0.0
    shift: int = 0
    flip: bool = False
    seconds: float = 0.0

    @classmethod
    def of(cls, optimizer: Literal["adam", "sgd"], settings: Any) -> Recipe:
        """The recipe that the settings of a trainer, or of a compressor that retrains, describe.

        Settings that the method does not have keep their default.
        """
        known = (name for name in cls.__struct_fields__ if name != "optimizer" and hasattr(settings, name))
        return cls(optimizer=optimizer, **{name: getattr(settings, name) for name in known})

    def augmentations(self, image: bool) -> tuple[Augmentation, ...]:
        """The steps that every batch takes: `shift` and `flip` (images only), those of `augment`, then `mix`."""
        steps: list[Augmentation] = []
        if image and (self.shift or self.flip):
            steps.append(Geometric(shift=self.shift, flip="horizontal" if self.flip else "none"))
        steps += [decode("augment", table, "train.augment") for table in self.augment]
        return (*steps, Mixup(alpha=self.mix)) if self.mix else tuple(steps)
