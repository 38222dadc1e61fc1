"""What a student sees of its teacher beside its answers: what both make of the same rows at matching stages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modelmill.errors import ModelError
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
    """Keeps what some modules of a network gave the last time that they ran."""

    def __init__(self, network: nn.Module, paths: Sequence[str]) -> None:
        self._found: dict[str, Tensor] = {}
        self._paths = list(paths)
        self._handles = [network.get_submodule(path).register_forward_hook(self._keep(path)) for path in self._paths]

    def _keep(self, path: str) -> Callable[[Any, Any, Tensor], None]:
        def keep(module: Any, given: Any, made: Tensor) -> None:
            self._found[path] = made

        return keep

    def values(self) -> list[Tensor]:
        """What each module gave, in the order of the paths."""
        return [self._found[path] for path in self._paths]

    def close(self) -> None:
        """Leave the network as it was found."""
        for handle in self._handles:
            handle.remove()


def matching(teacher: nn.Module, student: nn.Module, rows: Tensor) -> list[tuple[str, str]]:
    """Paths of stages that are alike in both networks.

    Maps match where they have as many pixels or steps; hidden layers of tables by their place on the way to the output.
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
    """For every size of maps, in order, the last module that gives one."""
    sizes = {tuple(shape[2:]): path for path, _, shape in _trace(network, rows) if len(shape) > 2}
    return {size: path for size, path in sizes.items() if math.prod(size) > 1}


def _hidden(network: nn.Module, rows: Tensor) -> list[str]:
    """The last module of every hidden layer: what a linear map reads that is itself made by one."""
    trace = _trace(network, rows)
    linear = [place for place, (_, module, _) in enumerate(trace) if isinstance(module, nn.Linear)]
    return [trace[place - 1][0] for place in linear[1:]]


def _trace(network: nn.Module, rows: Tensor) -> list[tuple[str, nn.Module, tuple[int, ...]]]:
    """Path, module and the shape that it gives, for every step of a network in the order in which they run."""
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


def _steps(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    if not isinstance(module, nn.Sequential):
        yield path, module
        return
    for name, child in module.named_children():
        yield from _steps(child, f"{path}.{name}" if path else name)
