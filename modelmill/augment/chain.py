"""Several augmentations, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modelmill.contracts import Augmentation, Augmented
from modelmill.errors import SpecError
from modelmill.method import name_of


def check(steps: Sequence[Augmentation], shape: Sequence[int]) -> None:
    """Refuse steps that cannot take features of that shape, the rows' axis included."""
    kind = "image" if len(shape) == 4 else "table"
    for step in steps:
        if kind not in step.kinds:
            name = name_of(type(step))
            message = f"takes {' and '.join(sorted(step.kinds))} features, and these are a {kind} of {tuple(shape[1:])}"
            raise SpecError(f"augment.{name}", message, "Leave the step out; mixup takes both.")


def augment(steps: Sequence[Augmentation], batch: Any, random: np.random.Generator) -> Augmented:
    """The batch after all steps.

    Raises SpecError where two of them blend rows: a target can be shared between two rows, not four.
    """
    whole = Augmented(batch)
    for step in steps:
        found = step(whole.batch, random)
        if found.order is None:
            whole = Augmented(found.batch, whole.order, whole.share)
        elif whole.order is None:
            whole = found
        else:
            raise SpecError("augment", "two steps blend rows", "Leave one of them out.")
    return whole
