"""A filter before the network that takes noise out of images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from modelmill.compress.retrain import Retrains
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress

if TYPE_CHECKING:
    from torch import nn


class Denoise(Compressor, Retrains):
    """Filter images in the graph before the body, then train the network again on what it sees now.

    It makes nothing smaller, and costs a little time: for images whose noise the network cannot take out itself. A
    learned filter has the same `size` x `size` weights over a channel, and moves with the network; pixels beyond the
    border are 0 to it, to fixed ones they are those of the border.

    Tukey (1977), Exploratory data analysis, for the median
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    by: Literal["learned", "gaussian", "median"] = "learned"
    """A filter that is trained, a fixed mean of neighbours, or the median of three down and then across."""
    size: Literal[3, 5, 7] = 3
    """Side of the filter in pixels; the median always has 3."""
    sigma: Annotated[float, Meta(ge=0, le=10)] = 0.5
    """The deviation in pixels of the Gaussian, with which the learned filter begins; 0 begins as it is."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Put the filter before a copy of the network, and retrain."""
        from modelmill.graph.export import features_shape

        shape = features_shape(model.part.prepare, model.signature.inputs) or ()
        idle = self.by == "gaussian" and not self.sigma
        if len(shape) != 3 or idle:
            why = "a Gaussian of no width changes nothing" if idle else "the network sees no images"
            yield Progress(1, 1, note=f"nothing is filtered: {why}", result=model)
            return
        said = "a median of three" if self.by == "median" else f"a {self.by} filter of {self.size}x{self.size} pixels"
        yield Progress(0, self.epochs, note=f"{said} is put before the network: no smaller, and a little slower")
        yield from self.retrained(self._filtered(model, shape[0], said), data, task, seed)

    def _filtered(self, model: Model, channels: int, said: str) -> Model:
        import copy

        from modelmill.compress.input import pixels
        from modelmill.compress.preparing import prepared, reopened

        line = f"input.denoise: {said}"
        if self.by == "learned":
            return model.with_body(self._learned(copy.deepcopy(model.body.value), channels), "network", line)
        writer, value = reopened(model.part.prepare)
        if self.by == "median":
            value = pixels.median(value, writer)
        else:
            value = pixels.blurred(value, channels, pixels.gaussian(self.size, self.sigma), writer)
        return prepared(model, writer, value).with_body(copy.deepcopy(model.body.value), "network", line)

    def _learned(self, network: nn.Module, channels: int) -> nn.Module:
        import torch
        from torch import nn

        from modelmill.compress.input.pixels import gaussian

        weights = torch.from_numpy(gaussian(self.size, self.sigma)).expand(channels, 1, -1, -1)
        first = nn.Conv2d(channels, channels, self.size, padding=self.size // 2, groups=channels, bias=False)
        with torch.no_grad():
            first.weight.copy_(weights)
        rest = list(network) if isinstance(network, nn.Sequential) else [network]
        return nn.Sequential(first, *rest)
