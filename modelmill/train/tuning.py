"""Fine-tuning: which layers of a trained network may move when, how fast, and how far from their start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import torch


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of fine-tuning; what each means is said in `trainers/finetune.py`."""

    freeze: int = 0
    thaw: Literal["gradual", "together"] = "gradual"
    layer_rate: float = 1.0
    pull: float = 0.0


@dataclass(eq=False)
class Layer:
    """Some modules that learn together: one with weights, and the norms that follow it."""

    place: int
    """Layers between it and the input."""
    modules: list[torch.nn.Module] = field(default_factory=list)
    parameters: list[torch.nn.Parameter] = field(default_factory=list)


class Tuner:
    """The layers of a network while it is fine-tuned, and the weights that it started from."""

    def __init__(self, module: torch.nn.Module, tuning: Tuning) -> None:
        self.tuning = tuning
        self.layers = layers(module)
        known = [p for layer in self.layers[:-1] for p in layer.parameters]
        self._starts = {p: p.detach().clone() for p in known} if tuning.pull else {}
        """Where each parameter below the head started, if it is drawn back to that."""

    def scale(self, layer: Layer) -> float:
        """A layer's share of the step size: that of the last one is 1."""
        return self.tuning.layer_rate ** (len(self.layers) - 1 - layer.place)

    def free(self, parameter: torch.nn.Parameter) -> bool:
        """Whether a parameter is not drawn to where it started, and so decays as others do."""
        return parameter not in self._starts

    def thawed(self, epoch: int) -> int:
        """How many layers, counted from the last one, learn in an epoch; the first epoch is 0."""
        freeze, whole = self.tuning.freeze, len(self.layers)
        if not freeze:
            return whole
        if self.tuning.thaw == "together":
            return whole if epoch >= freeze else 1
        return min(whole, 1 + epoch // freeze)

    def freeze(self, epoch: int) -> None:
        """Let the layers of an epoch learn, and the others stand still, their norms as well; after `module.train()`."""
        first = len(self.layers) - self.thawed(epoch)
        for layer in self.layers:
            for parameter in layer.parameters:
                parameter.requires_grad_(layer.place >= first)
            for module in layer.modules if layer.place < first else ():
                module.eval()

    def pull_gradients(self) -> None:
        """Add the slope of half the squared distance to the start, times `pull`, to the gradients.

        Li, Grandvalet & Davoine (2018), https://arxiv.org/abs/1802.01483, equation 2
        """
        moving = [p for p in self._starts if p.grad is not None]
        if moving:
            away = torch._foreach_sub([p.detach() for p in moving], [self._starts[p] for p in moving])
            torch._foreach_add_([p.grad for p in moving], away, alpha=self.tuning.pull)

    def pull_weights(self, group: dict[str, Any]) -> None:
        """Move the weights of an optimizer's group towards their start, apart from the gradients, as AdamW decays."""
        moving = [p for p in group["params"] if p in self._starts and p.grad is not None]
        if moving:
            with torch.no_grad():
                starts = [self._starts[p] for p in moving]
                torch._foreach_lerp_(moving, starts, group["lr"] * self.tuning.pull)


def layers(module: torch.nn.Module) -> list[Layer]:
    """The layers of a network from its input to its output, as its modules stand in it.

    A Sequential or a ModuleList is walked into; any other module with weights is one layer. What has only biases and
    scales, as norms have, belongs to the layer before it.
    """
    found: list[Layer] = []
    seen: set[torch.nn.Parameter] = set()
    for unit in _units(module):
        own = [p for p in unit.parameters() if p not in seen]
        seen.update(own)
        if not found or (found[-1].parameters and any(p.ndim > 1 for p in own)):
            found.append(Layer(len(found)))
        found[-1].modules.append(unit)
        found[-1].parameters += own
    found[0].parameters += [p for p in module.parameters() if p not in seen]
    return found


def _units(module: torch.nn.Module, root: bool = True) -> Iterator[torch.nn.Module]:
    children = list(module.children())
    if children and (root or isinstance(module, torch.nn.Sequential | torch.nn.ModuleList)):
        for child in children:
            yield from _units(child, root and len(children) == 1)
    else:
        yield module
