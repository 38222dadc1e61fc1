"""The engine of structured pruning: says what will go, cuts the least important channels, and trains what is left.

A method gives the importance of every channel; all else is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from modelmill.compress.retrain import Guided
from modelmill.contracts import Task
from modelmill.dataset import Splits
from modelmill.method import Method, name_of
from modelmill.model import Model
from modelmill.trial import Progress

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelmill.network.following import Channels

Importance = Callable[["nn.Module", "Sequence[Channels]"], "list[Tensor]"]
"""For every group of channels that go together, how important each channel is: (width,)."""

SEEN = 4096
"""Training rows from which batch norms learn anew what comes to them after a cut."""


@dataclass(frozen=True, eq=False)
class Choice:
    """How a method picks the channels that go."""

    importance: Importance
    cap: float | None = None
    """The share that any layer may lose where all layers are cut together; None cuts every layer by the same share."""
    fits: Callable[[Channels], bool] = lambda group: True
    """Which groups can be cut; others stay whole."""
    before: Callable[[Model], Iterator[Progress]] | None = None
    """Work on the model before its channels are judged, the last Progress with the model that comes of it."""


@dataclass(frozen=True, kw_only=True)
class Cuts(Guided):
    """Settings of methods that cut whole channels and neurons."""

    ratio: Annotated[float, Meta(ge=0, lt=1)] = 0.5
    """The share of channels that is removed; at least one of every layer stays."""
    multiple: Annotated[int, Meta(ge=1)] = 4
    """The number of channels that stay in a layer is rounded up to a multiple of this."""
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 5e-3
    """The largest step size of training again; larger than elsewhere, for much has to be learned anew."""

    def pruned(self, model: Model, data: Splits, task: Task, seed: int, choice: Choice) -> Iterator[Progress]:
        """Prune a copy of the model by that choice: say what goes, cut, settle batch norms, retrain."""
        from modelmill.network.slicing import channels

        groups = [group for group in channels(model.body.value) if choice.fits(group)]
        counts = self._least(groups, choice)
        if all(count == group.width for count, group in zip(counts, groups, strict=True)):
            yield Progress(1, 1, note=self._nothing(len(groups)), result=model)
            return
        yield self._announced(model.body.value, groups, counts, choice)
        if choice.before is not None:
            for progress in choice.before(model):
                model = progress.result or model
                yield Progress(progress.step, progress.total, progress.values, progress.note)
        cut, progress = self._cut(model, data, task, choice)
        yield progress
        yield from self.regained(model, cut, data, task, seed)

    def _least(self, groups: Sequence[Channels], choice: Choice) -> list[int]:
        """How many channels of every group stay at least."""
        from modelmill.network.slicing import kept

        share = self.ratio if choice.cap is None else choice.cap if self.ratio else 0.0
        return [kept(group.width, share, self.multiple) for group in groups]

    def _nothing(self, groups: int) -> str:
        if not groups:
            return "nothing is removed: no layer has channels that this step can judge and cut"
        return f"nothing is removed: layers are too narrow for ratio {self.ratio:g} in multiples of {self.multiple}"

    def _announced(self, network: nn.Module, groups: Sequence[Channels], counts: list[int], choice: Choice) -> Progress:
        """What will be cut: exactly where every layer loses the same share, else how far each may go."""
        from modelmill.compress.prune.counts import phrases, weights_after

        least = weights_after(network, choice.fits, counts)
        said = phrases(network, groups, counts)
        if choice.cap is None:
            return Progress(0, self.epochs, {"weights": least[1]}, f"of {least[0]} weights {least[1]} stay; {said}")
        note = f"of {sum(group.width for group in groups)} channels the share {self.ratio:g} goes, the least important"
        return Progress(0, self.epochs, {"weights": least[0]}, f"{note}; no layer may go further than {said}")

    def _cut(self, model: Model, data: Splits, task: Task, choice: Choice) -> tuple[Model, Progress]:
        """The model without its least important channels, its batch norms at home with what is left."""
        import copy

        from modelmill.compress.prune.counts import phrases, relative, together
        from modelmill.network.slicing import channels, cut, largest, parameters
        from modelmill.train.average import refresh
        from modelmill.train.rows import rows, some

        network: nn.Module = copy.deepcopy(model.body.value).eval().requires_grad_(True)
        before = parameters(network)
        groups = [group for group in channels(network) if choice.fits(group)]
        scores = choice.importance(network, groups)
        counts, capped = self._least(groups, choice), ""
        if choice.cap is not None:
            units = [relative(score) for score in scores]
            counts, capped = together(units, self.ratio, counts, self.multiple)
        said = phrases(network, groups, counts)
        for group, score, count in zip(groups, scores, counts, strict=True):
            if count < group.width:
                cut(group, largest(score, count))
        refresh(network, some(rows(model, data.train, task), SEEN).features)
        after = parameters(network)
        note = "; ".join(filter(None, (f"of {before} weights {after} stay", said, capped)))
        name = name_of(type(self)) if isinstance(self, Method) else "prune"
        changed = model.with_body(network, "network", f"{name}: {said}")
        return changed, Progress(0, self.epochs, {"weights": after}, note)


@dataclass(frozen=True, kw_only=True)
class Scoped:
    """Settings of methods whose importance can be compared between layers."""

    scope: Literal["local", "global"] = "local"
    """Whether every layer loses the share `ratio`, or all together, by importance in units of the layer's own."""
    most: Annotated[float, Meta(gt=0, lt=1)] = 0.9
    """The largest share that a layer may lose where all are cut together, so that none is emptied."""

    @property
    def cap(self) -> float | None:
        """The cap of a choice."""
        return self.most if self.scope == "global" else None
