"""Takes over the weights of one network into another where they have layers in common."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Any, NamedTuple

import torch


class Transferred(NamedTuple):
    """What a network took over from another one: names of its weights and buffers."""

    copied: tuple[str, ...]
    fresh: tuple[str, ...]
    """Those that are as they were: nothing in the other network has their place and shape."""


def transfer(source: torch.nn.Module, target: torch.nn.Module) -> Transferred:
    """Copy into a network, in place, every layer that another one has of the same kind and shape.

    Where both have layers of the same names, a name tells which belong together; else their order does, and the longest
    common runs are taken over. A layer is taken over whole: a bias without its weights would mean nothing.

    >>> small, large = torch.nn.Sequential(torch.nn.Linear(2, 3)), torch.nn.Sequential(torch.nn.Linear(2, 3))
    >>> transfer(small, large).copied
    ('0.weight', '0.bias')
    """
    given, wanted = _layers(source), _layers(target)
    if given.keys() == wanted.keys():
        pairs = [(name, name) for name in wanted if _shape(given[name]) == _shape(wanted[name])]
    else:
        pairs = _aligned(given, wanted)
    copied = {theirs: given[ours] for ours, theirs in pairs}
    for name, layer in copied.items():
        wanted[name].load_state_dict(layer.state_dict())
    inner = [(name, f"{name}.{key}" if name else key) for name, layer in wanted.items() for key in layer.state_dict()]
    return Transferred(
        tuple(full for name, full in inner if name in copied), tuple(full for name, full in inner if name not in copied)
    )


def _layers(module: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The innermost modules that hold weights, by name and in order."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if layer.state_dict() and not any(child.state_dict() for child in layer.children())
    }


def _shape(layer: torch.nn.Module) -> tuple[Any, ...]:
    return (type(layer), *((name, tuple(value.shape)) for name, value in layer.state_dict().items()))


def _aligned(given: dict[str, torch.nn.Module], wanted: dict[str, torch.nn.Module]) -> list[tuple[str, str]]:
    """Names of layers that correspond by their order."""
    ours, theirs = list(given), list(wanted)
    first, second = ([_shape(layer) for layer in layers.values()] for layers in (given, wanted))
    blocks = SequenceMatcher(a=first, b=second, autojunk=False).get_matching_blocks()
    return [(ours[b.a + i], theirs[b.b + i]) for b in blocks for i in range(b.size)]
