"""Graphs whose nodes have different precisions, what each precision loses, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from modelmill.compress.quantize.allot import Option
from modelmill.compress.quantize.blocked import free_inputs, place
from modelmill.compress.quantize.calibrate import Ranges, paired
from modelmill.compress.quantize.graphs import load
from modelmill.compress.quantize.matrices import matrices
from modelmill.compress.quantize.stored import upgrade
from modelmill.compress.quantize.tidy import tidy
from modelmill.contracts import Array
from modelmill.dataset import Dataset
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import Session

FLOATS, BYTES, NIBBLES = "floats", "8 bits", "4 bits"
BLOCK = 32
CALLS = 30
"""Runs of every graph in a block of timing, and how many blocks."""
ROUNDS = 5

Mix = Mapping[str, str]
"""Node: precision."""


@dataclass(frozen=True, eq=False)
class Mixer:
    """A model that is ready to be quantized, its nodes, the ranges between them, and rows to try it on."""

    model: Any
    nodes: Sequence[str]
    seen: Ranges
    reduce_range: bool
    rows: Dataset

    def choices(self) -> list[list[str]]:
        """The precisions that each node may have."""
        plain = set(matrices(self.model, self.nodes))
        return [[FLOATS, BYTES, NIBBLES] if node in plain else [FLOATS, BYTES] for node in self.nodes]

    def graph(self, mix: Mix) -> bytes:
        """The graph with those precisions; nodes that are not named stay floats."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        small = [node for node in self.nodes if mix.get(node) == NIBBLES]
        if small:
            model = upgrade(model)
            place(model, small, 4, BLOCK, True)
        whole = [node for node in self.nodes if mix.get(node) == BYTES]
        if not whole:
            return tidy(model)
        made = paired(model, whole, self.seen, per_channel=True, reduce_range=self.reduce_range)
        if not small:
            return made
        model = load(made)
        free_inputs(model)
        return tidy(model)

    def answers(self, graph: bytes) -> dict[str, Array]:
        """The outputs of a graph that are numbers, for the rows."""
        found = Session(graph).run(from_dataset(self.rows))
        return {name: value.astype(np.float64) for name, value in found.items() if value.dtype.kind == "f"}

    def losses(self) -> list[list[float]]:
        """For every node and choice how far the answers are off when that node alone has it, in their variance."""
        wanted = self.answers(self.graph({}))
        return [
            [0.0 if way == FLOATS else off(wanted, self.answers(self.graph({node: way}))) for way in ways]
            for node, ways in zip(self.nodes, self.choices(), strict=True)
        ]

    def table(self, by: str) -> tuple[list[list[Option]], float, float]:
        """The options of every node; what all of 8 bits cost, to which theirs add; and what all floats cost.

        A node's cost is measured with all others in 8 bits: alone among floats it would pay for going there and back.
        """
        whole = dict.fromkeys(self.nodes, BYTES)
        mixes: list[Mix] = [{}, whole]
        for node, ways in zip(self.nodes, self.choices(), strict=True):
            mixes += [{**whole, node: way} for way in ways if way != BYTES]
        costs = iter(self.costs([self.graph(mix) for mix in mixes], by))
        floats, base = next(costs), next(costs)
        found = []
        for ways, losses in zip(self.choices(), self.losses(), strict=True):
            each = [0.0 if way == BYTES else next(costs) - base for way in ways]
            found.append([Option(*entry) for entry in zip(ways, losses, each, strict=True)])
        return found, base, floats

    def costs(self, graphs: Sequence[bytes], by: str) -> list[float]:
        """The bytes of graphs, or the milliseconds of one row."""
        return [float(len(graph)) for graph in graphs] if by == "size" else measured(graphs, self.rows)


def off(wanted: Mapping[str, Array], found: Mapping[str, Array]) -> float:
    """How far answers are off, squared, in units of the variance of what was wanted.

    >>> off({"y": np.array([0.0, 2.0])}, {"y": np.array([0.0, 1.0])})
    0.5
    """
    parts = [((found[name] - value) ** 2).mean() / max(value.var(), 1e-12) for name, value in wanted.items()]
    return float(np.mean(parts)) if parts else 0.0


def measured(graphs: Sequence[bytes], rows: Dataset) -> list[float]:
    """Milliseconds of one row, one thread: the median of blocks in which every graph had its turn."""
    sessions = [Session(graph) for graph in graphs]
    row = from_dataset(rows.take(np.arange(1)))
    for session in sessions:
        session.run(row)
    blocks = []
    for _ in range(ROUNDS):
        taken = []
        for session in sessions:
            start = time.perf_counter()
            for _ in range(CALLS):
                session.run(row)
            taken.append((time.perf_counter() - start) / CALLS * 1e3)
        blocks.append(taken)
    return [float(value) for value in np.median(np.array(blocks), axis=0)]
