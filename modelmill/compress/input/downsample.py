"""Smaller images, and a network for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, ClassVar

from msgspec import Meta

from modelmill.compress.retrain import Retrains
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.errors import ModelError
from modelmill.model import Kind, Model
from modelmill.trial import Progress

WHERE = "compress.input.downsample"


class Downsample(Compressor, Retrains):
    """Average squares of pixels in the graph before the body, and train the same architecture for the smaller image.

    Layers whose shape stays keep their weights; the others begin anew. The student hears the model, which sees the
    whole image. Pixels at the right and below that fill no square are cut off.

    Chrabaszcz, Loshchilov & Hutter (2017), https://arxiv.org/abs/1707.08819
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    factor: Annotated[int, Meta(ge=2, le=16)] = 2
    """Side of the squares in pixels."""
    temperature: Annotated[float, Meta(gt=0)] = 3.0
    """How much the probabilities of the model are softened."""
    share: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """The weight of what the model says; the rest goes to the true labels."""
    epochs: Annotated[int, Meta(ge=1)] = 40
    """Epochs of training for the smaller image."""
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 1e-2
    """The largest step size of it."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Train a network for smaller images; the model itself is left as found."""
        from torch import nn

        from modelmill.compress.distill.student import objective, taught
        from modelmill.compress.input.features import copied, rebuilt
        from modelmill.graph.export import features_shape
        from modelmill.network.slicing import parameters

        shape = features_shape(model.part.prepare, model.signature.inputs) or ()
        if len(shape) != 3:
            yield Progress(1, 1, note="nothing becomes smaller: the network sees no images", result=model)
            return
        smaller = self._smaller(shape)
        network: nn.Module = rebuilt(model, smaller, seed, WHERE)
        warm = copied(model.body.value, network)
        before, after = parameters(model.body.value), parameters(network)
        said = f"{shape[1]}x{shape[2]} pixels become {smaller[1]}x{smaller[2]}"
        yield Progress(0, self.epochs, {"weights": after}, f"{said}; of {before} weights there are {after}")
        # the pool is a layer while the model must see the whole image, and a part of the preparation after
        whole = model.with_body(
            nn.Sequential(nn.AvgPool2d(self.factor), network), "network", f"input.downsample: {said}"
        )
        teach = objective(taught(model, data.train, task), bool(model.signature.classes), self.temperature, self.share)
        training = self.training(whole, data, task, seed, teach, warm=warm)
        yield from training.run()
        last = training.finish("retrain.adam")
        assert last.result is not None, "a training that has finished has a result"
        yield replace(last, result=self._pooled_before(last.result, smaller))

    def _smaller(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        channels, height, width = shape
        if min(height, width) < 2 * self.factor:
            message = f"factor = {self.factor} leaves too little of {height}x{width} pixels"
            raise ModelError(WHERE, message, "Take a smaller factor.")
        return channels, height // self.factor, width // self.factor

    def _pooled_before(self, trained: Model, shape: tuple[int, int, int]) -> Model:
        """The model with the pool at the end of its preparation."""
        from modelmill.compress.input.pixels import pooled
        from modelmill.compress.preparing import prepared, reopened

        writer, value = reopened(trained.part.prepare)
        model = prepared(trained, writer, pooled(value, self.factor, writer))
        body = replace(model.body, value=trained.body.value[1], features=shape)
        return replace(model, parts=(replace(model.part, body=body),))
