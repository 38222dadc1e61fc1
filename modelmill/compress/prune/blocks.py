"""Pruning of whole blocks and layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from msgspec import Meta

from modelmill.compress.retrain import Guided
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress


class Blocks(Compressor, Guided):
    """Remove the residual blocks, cells and layers that can go and are missed least, then retrain.

    A block can go where what comes out of it has the shape of what goes in. One after the other that block goes without
    which, and without those gone before, the loss on training rows is the smallest.

    Related: Veit et al. (2016), https://arxiv.org/abs/1605.06431; Chen & Zhao (2019),
    https://doi.org/10.1109/TPAMI.2018.2874634
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network"})

    ratio: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """The share of the blocks that can go that is removed, rounded."""
    rows: Annotated[int, Meta(ge=1)] = 1024
    """How many training rows are looked at."""
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 5e-3
    """The largest step size of training again; larger than elsewhere, for much has to be learned anew."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Remove blocks from a copy of the model, and retrain it."""
        import copy

        from modelmill.compress.prune.missing import least_missed, titles
        from modelmill.compress.prune.readings import sample
        from modelmill.network.slicing import parameters, removable, without
        from modelmill.train.average import refresh

        network = copy.deepcopy(model.body.value).eval().requires_grad_(True)
        places = removable(network)
        count = int(self.ratio * len(places) + 0.5)
        if not count:
            note = f"nothing is removed: {len(places)} blocks can go, and the share {self.ratio:g} of them is none"
            yield Progress(1, 1, note=note, result=model)
            return
        before = parameters(network)
        note = f"{count} of these {len(places)} blocks go: {titles(network, places)}"
        yield Progress(0, self.epochs, {"weights": before}, note)
        seen = sample(model, data, task, self.rows)
        gone = least_missed(network, count, seen, task)
        smaller = without(network, [place not in gone for place in range(len(places))])
        said = f"without {titles(network, [places[place] for place in sorted(gone)])}"
        refresh(smaller, seen.features)
        after = parameters(smaller)
        yield Progress(0, self.epochs, {"weights": after}, f"of {before} weights {after} stay; {said}")
        changed = model.with_body(smaller, "network", f"prune.blocks: {said}")
        yield from self.regained(model, changed, data, task, seed)
