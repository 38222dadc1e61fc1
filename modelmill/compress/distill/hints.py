"""What a student sees of its teacher beside its answers: what both make of the same rows at matching stages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modelmill.errors import ModelError
from modelmill.network.attention import Pooled, Tokens
from modelmill.network.recurrent import Recurrent
from modelmill.train.training import Objective, Training
from modelmill.trial import Progress

Hint = Callable[[Tensor, Tensor], Tensor]
"""A loss of what the teacher and the student make of the same rows: (rows, channels, ...) each."""


def hinted(training: Training, teacher: nn.Module, soft: Objective, hint: Hint, weight: float) -> Iterator[Progress]:
    """Train a student by the objective and, `weight` times, by the sum of the hint over all matching stages.

    The objective must ask the teacher about every batch, as `student.objective` does. Raises ModelError, before any
    training, where no stages match.
    """
    pairs = matching(teacher, training.module, training.train.features[:2])
    shown = Tap(teacher, [first for first, _ in pairs])
    seen = Tap(training.module, [second for _, second in pairs])

    def loss(raw: Tensor, inputs: Tensor, hard: Tensor) -> Tensor:
        mine = seen.values()
        total = soft(raw, inputs, hard)
        return total + weight * torch.stack([hint(a, b) for a, b in zip(shown.values(), mine, strict=True)]).sum()

    training.objective = loss
    return _closing(training, seen)


def _closing(training: Training, seen: Tap) -> Iterator[Progress]:
    try:
        yield from training.run()
    finally:
        seen.close()


class Tap:
    """Keeps what some modules of a network gave the last time that they ran, as (rows, channels, ...).

    Of a recurrent unit that is what it knew at every step.
    """

    def __init__(self, network: nn.Module, paths: Sequence[str]) -> None:
        self._found: dict[str, Tensor] = {}
        self._paths = list(paths)
        last = _channels_last(network)
        self._handles = [
            network.get_submodule(path).register_forward_hook(self._keep(path, path in last)) for path in self._paths
        ]

    def _keep(self, path: str, last: bool) -> Callable[[Any, Any, Any], None]:
        def keep(module: Any, given: Any, made: Any) -> None:
            values: Tensor = made[0] if isinstance(module, nn.RNNBase) else made
            self._found[path] = values.movedim(-1, 1) if last else values

        return keep

    def values(self) -> list[Tensor]:
        """What each module gave, in the order of the paths: (rows, channels, ...) each."""
        return [self._found[path] for path in self._paths]

    def close(self) -> None:
        """Leave the network as it was found."""
        for handle in self._handles:
            handle.remove()


def matching(teacher: nn.Module, student: nn.Module, rows: Tensor) -> list[tuple[str, str]]:
    """Paths of stages that are alike in both networks.

    Maps match where they have as many pixels, steps or tokens; hidden layers of tables by their place on the way to the
    output.
    Raises ModelError where none do.
    """
    maps, others = (_maps(network, rows) for network in (teacher, student))
    found = [(path, others[size]) for size, path in maps.items() if size in others]
    if not found and not maps and not others:
        first, second = (_hidden(network, rows) for network in (teacher, student))
        steps = len(first) / max(len(second), 1)
        found = [(first[math.ceil((i + 1) * steps) - 1], path) for i, path in enumerate(second) if first]
    if not found:
        message = "no stage of the model has its like in the student"
        raise ModelError(
            "compress.distill", message, "Use distill.soft, or a student with hidden layers of the same sizes."
        )
    return found


def _maps(network: nn.Module, rows: Tensor) -> dict[tuple[int, ...], str]:
    """For every size of maps, in order, the last module that gives one.

    Not a layer norm: behind it all tokens are as active as each other.
    """
    trace = _trace(network, rows)
    sizes = {
        tuple(shape[2:]): path
        for path, module, shape in trace
        if len(shape) > 2 and not isinstance(module, nn.LayerNorm)
    }
    return {size: path for size, path in sizes.items() if math.prod(size) > 1}


def _hidden(network: nn.Module, rows: Tensor) -> list[str]:
    """The last module of every hidden layer: what a linear map reads that is itself made by one."""
    trace = _trace(network, rows)
    linear = [place for place, (_, module, _) in enumerate(trace) if isinstance(module, nn.Linear)]
    return [trace[place - 1][0] for place in linear[1:]]


def _trace(network: nn.Module, rows: Tensor) -> list[tuple[str, nn.Module, tuple[int, ...]]]:
    """Path, module and the shape of what it gives, (rows, channels, ...), for every step of a network as they run."""
    steps = list(_steps(network, ""))
    tap = Tap(network, [path for path, _ in steps])
    training = {module: module.training for module in network.modules()}
    network.eval()
    with torch.no_grad():
        network(rows)
    for module, mode in training.items():
        module.training = mode
    tap.close()
    return [(path, module, tuple(made.shape)) for (path, module), made in zip(steps, tap.values(), strict=True)]


def _channels_last(network: nn.Module) -> set[str]:
    """Paths of what gives (rows, places, channels): all from tokens up to what pools them, and recurrent units."""
    found, tokens = set(), False
    for path, module in _steps(network, ""):
        tokens = isinstance(module, Tokens) or (tokens and not isinstance(module, Pooled))
        if tokens or isinstance(module, nn.RNNBase):
            found.add(path)
    return found


def _steps(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """Path and module of every step.

    Of a recurrent layer it is the unit, which tells of every step, for the layer may give the end of its way alone.
    """
    if isinstance(module, nn.Sequential):
        for name, child in module.named_children():
            yield from _steps(child, f"{path}.{name}" if path else name)
    elif isinstance(module, Recurrent):
        yield (f"{path}.unit" if path else "unit"), module.unit
    else:
        yield path, module
