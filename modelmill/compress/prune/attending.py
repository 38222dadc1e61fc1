"""How much the heads of attention layers matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from modelmill.compress.prune.counts import relative
from modelmill.compress.prune.readings import effects
from modelmill.contracts import Task
from modelmill.network.attention import Attention
from modelmill.network.slicing import Channels
from modelmill.train.rows import Rows


def attending(network: nn.Module) -> dict[str, Attention]:
    """The attention layers whose heads can be cut, by name: those whose maps were not replaced by others."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, Attention) and type(module.ask) is nn.Linear and type(module.tell) is nn.Linear
    }


def importance(network: nn.Module, layers: Sequence[Attention], seen: Rows, task: Task) -> list[Tensor]:
    """For every layer how much each head matters, in units of the layer: (heads,) float64."""
    groups = [Channels(layer.heads, takers=[layer.tell]) for layer in layers]

    def losses(raw: Tensor, rows: slice) -> Tensor:
        """A number whose slope at a row is that of the row's own loss."""
        weights = None if seen.weights is None else seen.weights[rows]
        loss: Tensor = task.loss(raw, seen.encoded[rows], weights, 0.0) * len(raw)
        return loss

    return [relative(found.abs().mean(0)) for found in effects(network, groups, seen.features, losses)]


def told(layers: Mapping[str, Attention], counts: Sequence[int]) -> str:
    """What becomes of every layer: "1.body.1: 4 heads to 2, 3.body.1 stays (4)"."""
    return ", ".join(
        f"{name}: {layer.heads} heads to {count}" if count < layer.heads else f"{name} stays ({count})"
        for (name, layer), count in zip(layers.items(), counts, strict=True)
    )
