"""The engine of factoring: says which layers get thinner, replaces them, and trains what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta

from modelmill.compress.retrain import Guided
from modelmill.contracts import Task
from modelmill.dataset import Splits
from modelmill.method import Method, name_of
from modelmill.model import Model
from modelmill.trial import Progress

if TYPE_CHECKING:
    from torch import nn

SEEN = 4096
"""Training rows from which batch norms learn anew what comes to them."""

OPEN = ("torch.nn.modules.container.", "modelmill.")
"""Modules that call what they hold, and do not reach into its weights."""


@dataclass(frozen=True, eq=False)
class Factored:
    """What takes the place of a layer."""

    module: nn.Module
    said: str
    """Its shape, such as "64x64 to rank 8"."""


Split = Callable[[Any], Factored | None]
"""What takes the place of a layer; None where it stays."""


@dataclass(frozen=True, kw_only=True)
class Factors(Guided):
    """Settings of methods that factor layers."""

    by: Literal["energy", "ratio"] = "energy"
    """Whether ranks are as small as `energy` allows, or as large as `ratio` allows."""
    energy: Annotated[float, Meta(gt=0, le=1)] = 0.8
    """The share of the squares of a layer's weights that its factors keep at least."""
    ratio: Annotated[float, Meta(ge=0, lt=1)] = 0.5
    """The share of a layer's weights that is saved at least; the layer that answers stays whole then."""

    @property
    def wanted(self) -> str:
        """What ranks are chosen by, as a person would say it."""
        return f"energy {self.energy:g}" if self.by == "energy" else f"ratio {self.ratio:g}"

    def factored(self, model: Model, data: Splits, task: Task, seed: int, split: Split) -> Iterator[Progress]:
        """Replace the layers of a copy of the model that get smaller, and retrain it."""
        import copy

        import torch

        from modelmill.network.slicing import parameters
        from modelmill.train.average import refresh
        from modelmill.train.rows import rows, some

        network: nn.Module = copy.deepcopy(model.body.value).eval().requires_grad_(True)
        before = parameters(network)
        with torch.random.fork_rng(devices=[]):  # new layers draw weights that are not used
            network, said = replaced(network, split, _last(network) if self.by == "ratio" else None)
        if not said:
            yield Progress(1, 1, note=f"nothing is factored: no layer gets smaller at {self.wanted}", result=model)
            return
        after = parameters(network)
        note = f"of {before} weights {after} stay; {', '.join(said)}"
        yield Progress(0, self.epochs, {"weights": after}, note)
        refresh(network, some(rows(model, data.train, task), SEEN).features)
        name = name_of(type(self)) if isinstance(self, Method) else "factor"
        changed = model.with_body(network, "network", f"{name}: {', '.join(said)}")
        yield from self.regained(model, changed, data, task, seed)


def _last(network: nn.Module) -> nn.Module:
    """The last module with weights of its own."""
    return [module for module in network.modules() if next(module.parameters(recurse=False), None) is not None][-1]


def replaced(network: nn.Module, split: Split, spared: nn.Module | None = None) -> tuple[nn.Module, list[str]]:
    """The network with those layers replaced, in place, that `split` has something for; what was done, layer by layer.

    Layers inside of modules that we do not know stay: such modules may use the weights themselves. So does `spared`.
    """
    from torch import nn

    holder = nn.Sequential(network)
    done: dict[int, nn.Module] = {}
    said = []
    for path, parent in list(holder.named_modules()):
        if not f"{type(parent).__module__}.".startswith(OPEN):
            continue
        for name, child in parent._modules.items():
            if id(child) in done:
                parent._modules[name] = done[id(child)]
            elif child is not spared and (found := split(child)) is not None:
                parent._modules[name] = done[id(child)] = found.module.train(child.training)
                said.append(f"{f'{path}.{name}'.removeprefix('0.').strip('.')}: {found.said}")
    return holder[0], said
