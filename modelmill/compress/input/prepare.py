"""Another preparation, or fewer features, and the same architecture trained for them."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from modelmill.compress.distill.learns import Learns
from modelmill.compress.retrain import Retrains
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.errors import ModelError
from modelmill.method import decode
from modelmill.model import Kind, Model, Part
from modelmill.trial import Progress

WHERE = "compress.input.prepare"


class Prepare(Compressor, Learns, Retrains):
    """Fit preparation anew or keep the features that matter most, and train the same architecture for what it sees now.

    What matters is how far answers move when a feature is that of another row. A network hears the model as it came in,
    and of its weights those stay whose layers stay; an estimator is fitted again.

    Guyon & Elisseeff (2003), https://www.jmlr.org/papers/v3/guyon03a.html
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network", "estimator"})

    prepare: tuple[dict[str, Any], ...] = ()
    """Tables of preparations that take the place of those before (`bucket`, say); none leaves them as they are."""
    keep: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """The share of the features that is kept; where they are new, a first training tells what matters."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Train a body for other features; the model itself is left as found."""
        from modelmill.runtime.features import features

        if not self.prepare and self.keep == 1:
            yield Progress(1, 1, note="there are no steps to fit anew and keep = 1: nothing changes", result=model)
            return
        shape = features(model.part, model.signature, data.train).shape[1:]
        if len(shape) != 1:
            message = f"the body sees an image or a sequence ({'x'.join(map(str, shape))} values), and no table"
            raise ModelError(WHERE, message, "See input.downsample for images, or leave this step out.")
        if self.prepare:
            base = self._anew(model, data)
            width = base.body.features[0]
            said = f"{shape[0]} features become {width} by {', '.join(str(step['method']) for step in self.prepare)}"
            made = yield from _last(self._trained(model, base, data, task, seed, said, None))
        else:
            made = replace(model, parts=(replace(model.part, body=replace(model.body, features=shape)),))
        if self.keep < 1:
            made = yield from self._fewer(model, made, data, task, seed)
        yield Progress(1, 1, {"features": float(made.body.features[0])}, result=made)

    def _anew(self, model: Model, data: Splits) -> Model:
        from modelmill.prepare.chain import prepare

        steps = [decode("prepare", table, f"{WHERE}.prepare") for table in self.prepare]
        found = prepare(steps, data.train, "table")
        return replace(model, parts=(Part(replace(model.body, features=found.shape), found.fragment),))

    def _fewer(
        self, model: Model, made: Model, data: Splits, task: Task, seed: int
    ) -> Generator[Progress, None, Model]:
        from modelmill.compress.input.features import dependence, picked
        from modelmill.runtime.features import features

        width = made.body.features[0]
        count = max(1, math.ceil(self.keep * width))
        moved = dependence(made, features(made.part, made.signature, data.train), seed)
        places = np.sort(np.argsort(-moved, kind="stable")[:count])
        said = f"of {width} features {count} are kept"
        return (yield from _last(self._trained(model, picked(made, places), data, task, seed, said, places)))

    def _trained(
        self, teacher: Model, base: Model, data: Splits, task: Task, seed: int, said: str, places: Any
    ) -> Iterator[Progress]:
        """The base, whose body is one for other features, with its arch trained for those that it gives now."""
        from modelmill.compress.distill.labels import targets
        from modelmill.compress.distill.merging import taught_by
        from modelmill.compress.input.features import copied, rebuilt
        from modelmill.train.estimate import estimate

        kind, old = base.body.kind, base.body.value
        body = rebuilt(base, base.body.features, seed, WHERE)
        student = base.with_body(body, kind, f"input.prepare: {said}")
        yield Progress(0, self.epochs, {"features": float(base.body.features[0])}, said)
        if kind == "estimator":
            yield from estimate(student, data, task, "none", seed, self.seconds)
            return
        training = self.training(student, data, task, seed, warm=copied(old, body, places))
        taught_by(training, targets(teacher, data.train, task, self.share, self.temperature))
        yield from training.run()
        yield training.finish("retrain.adam")


def _last(found: Iterator[Progress]) -> Generator[Progress, None, Model]:
    """What a training yields, without its result, which is returned."""
    result: Model | None = None
    for progress in found:
        result = progress.result or result
        yield replace(progress, result=None)
    assert result is not None, "a training that has finished has a result"
    return result
