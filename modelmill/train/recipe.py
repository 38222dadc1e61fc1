"""How a network is trained, as one value: what the trainers and the retraining compressors hand to `fit`."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Schedule = Literal["cosine", "one_cycle", "step", "constant"]


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one training; what each means is said in `trainers/adam.py`."""

    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 3e-3
    momentum: float = 0.9
    epochs: int = 60
    batch: int = 64
    weight_decay: float = 0.0
    schedule: Schedule = "cosine"
    warmup: float = 0.1
    patience: int = 0
    smoothing: float = 0.0
    clip: float = 1.0
    class_weights: Literal["none", "balanced"] = "none"
    average: float = 0.99
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
