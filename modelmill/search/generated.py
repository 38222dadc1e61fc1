"""Joins a generator of architectures with a sampler of everything else, and knows how a space spells a cell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from modelmill.contracts import Pick
from modelmill.errors import SpecError
from modelmill.history import History, Past, Suggestion
from modelmill.search.seeds import derive
from modelmill.space import Dimension, Settings, Space

ARCH = "arch"
"""Settings of an architecture are this one, and those below it."""

MEMO = "generator"
"""The key of a trial's memo under which its generator's own stands."""


def joined(space: Space, generate: Pick, sample: Pick) -> Pick:
    """Picks the architecture as one says and all other settings as the other does.

    Each sees the whole history, and of the memos its own part.
    """

    def pick(history: History, seed: int) -> Suggestion | None:
        drawn = generate([_own(one) for one in history], derive(seed, "generator"))
        sampled = sample(history, seed)
        if drawn is None or sampled is None:
            return None
        random = np.random.default_rng(derive(seed, "joined"))
        settings = space.complete({**sampled.settings, **drawn.settings}, random)
        note = "; ".join(note for note in (drawn.note, sampled.note) if note)
        return Suggestion(settings, {**sampled.memo, MEMO: drawn.memo}, note)

    return pick


def _own(one: Past) -> Past:
    return msgspec.structs.replace(one, memo=one.memo.get(MEMO, {}))


def architecture(space: Space) -> list[Dimension]:
    """The dimensions of the architecture, in the order of the walk. Raises SpecError where it has none."""
    found = [one for one in space.dimensions if one.name == ARCH or one.name.startswith(f"{ARCH}.")]
    if not found:
        raise SpecError("search.generator", "nothing of the arch is left open", "Give ranges in [arch].")
    return found


class Cell(msgspec.Struct, frozen=True):
    """How a space spells the cell of a network: one setting a node's operation, one a possible edge."""

    operations: Mapping[int, Dimension]
    """Node, from 1, to the setting of its operation."""
    edges: Mapping[tuple[int, int], Dimension]
    """(reader, value), the reader from 1 and the value from 0, to the setting that says whether it is read."""

    @property
    def nodes(self) -> int:
        """How many nodes; the output reads as node `nodes + 1`."""
        return max(reader for reader, _ in self.edges) - 1

    def settings(self, operations: Sequence[Any], reads: Mapping[int, set[int]]) -> Settings:
        """The settings of a cell whose reader i reads the values `reads[i]`."""
        found = {one.name: operations[node - 1] for node, one in self.operations.items()}
        return found | {one.name: int(value in reads.get(i, ())) for (i, value), one in self.edges.items()}


def cell(space: Space) -> Cell:
    """The cell of a space. Raises SpecError where no edges of a cell are left open."""
    operations: dict[int, Dimension] = {}
    edges: dict[tuple[int, int], Dimension] = {}
    for dimension in architecture(space):
        if match := re.search(r"\.edges\.(\d+)\.(\d+)$", dimension.name):
            edges[int(match[1]), int(match[2]) - 1] = dimension
        elif match := re.search(r"\.operations\.(\d+)$", dimension.name):
            operations[int(match[1])] = dimension
    if not edges:
        raise SpecError("search.generator", "the arch leaves no edges open", "Use arch.cell with `edges` to choose.")
    return Cell(operations, edges)
