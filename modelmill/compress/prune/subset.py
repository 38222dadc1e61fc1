"""Pruning that keeps the channels and neurons from which the next layer's sums are best made up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from modelmill.compress.prune.channels import Choice, Cuts
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress

if TYPE_CHECKING:
    from torch import Tensor, nn

    from modelmill.network.following import Channels


class Subset(Compressor, Cuts):
    """Keep the subset of channels whose outputs best rebuild what the next layer makes of all, then retrain.

    Greedy: one after the other that channel goes without which, and without those gone before, the sums of the next
    layer are off by the least, in squares, over the rows, pixels and outputs that are looked at. Channels that cancel
    each other out go together, however large they are.

    A graph is not retrained: its layers make up for the channels that they lose by least squares on the same rows, and
    that channel goes which is missed least once the others have made up for it. Channels are followed through
    convolutions, Gemm, MatMul, batch norms, elementwise operations, pools, sums, concatenations and squeeze-and-
    excitation; what others read, recurrent layers for one, stays whole, and is named.

    Luo et al. (2017), https://arxiv.org/abs/1707.06342, equations 6 and 7
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"network", "graph"})

    rows: Annotated[int, Meta(ge=1)] = 512
    """How many training rows are looked at."""
    places: Annotated[int, Meta(ge=1)] = 16
    """How many pixels, or steps, of every row are looked at, drawn at random."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Prune a copy of the model; a network is retrained."""
        if model.body.kind == "graph":
            yield from self._graph(model, data, seed)
        else:
            yield from self._network(model, data, task, seed)

    def _network(self, model: Model, data: Splits, task: Task, seed: int) -> Iterator[Progress]:
        from modelmill.compress.prune.readings import sample
        from modelmill.compress.prune.sums import leaving, products

        def importance(network: nn.Module, groups: Sequence[Channels]) -> list[Tensor]:
            features = sample(model, data, task, self.rows).features
            return [leaving(found) for found in products(network, groups, features, self.places, seed)]

        yield from self.pruned(model, data, task, seed, Choice(importance))

    def _graph(self, model: Model, data: Splits, seed: int) -> Iterator[Progress]:
        from modelmill.compress.convert.cleaning import clean, written
        from modelmill.compress.prune.follow import follow
        from modelmill.compress.prune.rebuilding import biased, chosen, cut, products, unshare
        from modelmill.compress.quantize.graphs import load, named, outcome, sample
        from modelmill.graph.shapes import tell
        from modelmill.network.slicing import kept

        proto = load(model.body.value)
        clean(proto)
        named(proto)
        biased(proto)
        unshare(proto)
        tell(proto)
        spaces = follow(proto)
        counts = {space: kept(spaces.widths[space], self.ratio, self.multiple) for space in spaces.free()}
        counts = {space: count for space, count in counts.items() if count < spaces.widths[space]}
        stays = f"; stays whole: {spaces.reasons()}" if spaces.held else ""
        if not counts:
            yield Progress(1, 1, note=f"nothing is removed: no channels of the graph can be cut{stays}", result=model)
            return
        said = {space: f"{spaces.widths[space]} to {count} channels" for space, count in counts.items()}
        yield Progress(0, 1, note=f"{', '.join(said.values())}{stays}")
        with products(proto, spaces, sample(data, self.rows, seed)) as seen:
            stay = chosen(proto, spaces, seen, counts)
            cut(proto, spaces, stay, seen)
        left = len(counts) - len(stay)
        whole = f"{left} stay whole, as what reads them is too wide or goes over three axes" if left else ""
        if not stay:
            yield Progress(1, 1, note=f"nothing is removed: {whole}", result=model)
            return
        what = f"layers were cut ({', '.join(filter(None, (*map(said.get, stay), whole)))})"
        yield outcome(model, written(proto), "prune.subset", len(stay), what)
