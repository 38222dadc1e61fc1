"""Channels of a graph that stay or go together, and all that has to be cut with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from modelmill.contracts import Array


class Segment(NamedTuple):
    """Some channels along an axis: of which space, how many, and how many numbers beside each other each has."""

    space: int
    width: int
    spread: int


class Laid(NamedTuple):
    """How channels lie in a value: along which axis, one segment after the other."""

    axis: int
    segments: tuple[Segment, ...]


@dataclass(eq=False)
class Use:
    """A constant with numbers for channels along an axis, in the order of segments."""

    tensor: str
    axis: int
    segments: tuple[Segment, ...]


@dataclass(eq=False)
class Reader:
    """A node that mixes channels: the value that it reads, and the axis of its weight that they meet."""

    node: Any
    segments: tuple[Segment, ...]


@dataclass(eq=False)
class Spaces:
    """All channels of a graph that were followed."""

    parents: list[int] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    held: dict[int, str] = field(default_factory=dict)
    """Spaces that cannot be cut, and why."""
    uses: list[Use] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)
    targets: list[tuple[Any, int, tuple[Segment, ...]]] = field(default_factory=list)
    """Reshapes, with the place in what they ask for that says how many channels there are."""

    groups: list[tuple[Any, tuple[Segment, ...]]] = field(default_factory=list)
    """The attributes of depthwise convolutions that say how many channels there are."""

    def space(self, width: int) -> int:
        """A new space of so many channels."""
        self.parents.append(len(self.parents))
        self.widths.append(width)
        return len(self.parents) - 1

    def root(self, space: int) -> int:
        """The space that stands for all that were joined with one."""
        while self.parents[space] != space:
            space = self.parents[space]
        return space

    def join(self, first: int, second: int) -> None:
        """Let channels of two spaces stay or go together."""
        self.parents[self.root(second)] = self.root(first)

    def hold(self, segments: Sequence[Segment], why: str) -> None:
        """Say that channels cannot be cut."""
        for segment in segments:
            self.held.setdefault(segment.space, why)

    def reasons(self) -> str:
        """Why channels stay, each reason once."""
        return ", ".join(dict.fromkeys(self.held.values()))

    def free(self) -> list[int]:
        """The spaces that can be cut, in the order in which they are made: mixed by some node, and held by none."""
        held = {self.root(space) for space in self.held}
        mixed = {self.root(segment.space) for reader in self.readers for segment in reader.segments}
        return [s for s in range(len(self.parents)) if self.root(s) == s and s in mixed and s not in held]


def places(segments: Sequence[Segment], kept: Mapping[int, Array], spaces: Spaces) -> Array:
    """Which numbers along an axis stay, when only some channels of some spaces do."""
    found, start = [], 0
    for segment in segments:
        channels = kept.get(spaces.root(segment.space), np.arange(segment.width))
        found.append(start + (channels[:, None] * segment.spread + np.arange(segment.spread)).ravel())
        start += segment.width * segment.spread
    return np.concatenate(found)
