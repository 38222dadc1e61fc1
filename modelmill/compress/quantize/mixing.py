"""Graphs whose nodes have different precisions, what each precision loses, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx

from modelmill.compress.quantize.allot import Option
from modelmill.compress.quantize.blocked import free_inputs, place
from modelmill.compress.quantize.calibrate import Ranges
from modelmill.compress.quantize.calibrates import Calibrates
from modelmill.compress.quantize.matrices import matrices
from modelmill.compress.quantize.stored import FLOAT, upgrade
from modelmill.compress.quantize.tidy import tidied
from modelmill.contracts import Array
from modelmill.dataset import Dataset
from modelmill.graph.apart import saved
from modelmill.graph.clean import size, stripped
from modelmill.graph.scopes import nodes
from modelmill.runtime.calls import calls
from modelmill.runtime.memory import give_back
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
    nodes: list[str]
    seen: Ranges
    how: Calibrates
    rows: Dataset

    @cached_property
    def units(self) -> list[list[str]]:
        """The nodes in groups that read one weight: in two precisions it would be stored twice."""
        weights = {node.name: node.input[1] for node in nodes(self.model) if len(node.input) > 1}
        found: dict[str, list[str]] = {}
        for node in self.nodes:
            found.setdefault(weights[node], []).append(node)
        return list(found.values())

    def choices(self) -> list[list[str]]:
        """The precisions that each unit may have."""
        plain = set(matrices(self.model, self.nodes))
        return [[FLOATS, BYTES, NIBBLES] if plain.issuperset(unit) else [FLOATS, BYTES] for unit in self.units]

    def mix(self, ways: Sequence[str]) -> Mix:
        """The precision of every node, from those of the units."""
        return {node: way for unit, way in zip(self.units, ways, strict=True) for node in unit}

    def graph(self, mix: Mix) -> Any:
        """The model with those precisions, tidied; nodes that are not named stay floats."""
        small = [node for node in self.nodes if mix.get(node) == NIBBLES]
        whole = [node for node in self.nodes if mix.get(node) == BYTES]
        if whole:
            model = self.how.paired(self.model, whole, self.seen)
        else:
            model = onnx.ModelProto()
            model.CopyFrom(self.model)
        if small:
            model = upgrade(model)
            place(model, small, 4, BLOCK, True)
        tidied(model)
        if small and whole:
            free_inputs(model)
            tidied(model)
        return model

    def answers(self, mix: Mix) -> dict[str, Array]:
        """The float outputs for the rows, call after call, with those precisions; large weights lie in a file."""
        model = self.graph(mix)
        names = [value.name for value in model.graph.output if value.type.tensor_type.elem_type == FLOAT]
        with TemporaryDirectory() as folder:
            path = saved(model, names, Path(folder))
            del model
            give_back()
            session = Session(path)
            found = [session.run(columns, names) for columns in calls(session, self.rows, self.rows.rows)]
        return {name: np.concatenate([one[name].ravel() for one in found]).astype(np.float64) for name in names}

    def losses(self) -> list[list[float]]:
        """For every unit and choice how far the answers are off when that alone has it, in their variance."""
        wanted = self.answers({})
        return [
            [0.0 if way == FLOATS else off(wanted, self.answers(dict.fromkeys(unit, way))) for way in ways]
            for unit, ways in zip(self.units, self.choices(), strict=True)
        ]

    def table(self, by: str) -> tuple[list[list[Option]], float, float]:
        """The options of every unit; what all of 8 bits cost, to which theirs add; and what all floats cost.

        A unit's cost is measured with all others in 8 bits: alone among floats it would pay for going there and back.
        """
        choices, losses = self.choices(), self.losses()
        whole = dict.fromkeys(self.nodes, BYTES)
        mixes: list[Mix] = [{}, whole]
        for unit, ways in zip(self.units, choices, strict=True):
            mixes += [{**whole, **dict.fromkeys(unit, way)} for way in ways if way != BYTES]
        costs = self.costs(mixes, by)
        floats, base = next(costs), next(costs)
        found = []
        for ways, lost in zip(choices, losses, strict=True):
            each = [0.0 if way == BYTES else next(costs) - base for way in ways]
            found.append([Option(*entry) for entry in zip(ways, lost, each, strict=True)])
        return found, base, floats

    def costs(self, mixes: Sequence[Mix], by: str) -> Iterator[float]:
        """The bytes of the graphs with those precisions, or the milliseconds of one row, as many as 8 bits take."""
        if by == "size":
            for mix in mixes:
                yield float(size(self.graph(mix)))
            return
        base = self._session(dict.fromkeys(self.nodes, BYTES))
        row = next(calls(base, self.rows, 1))
        unit = beside(base, base, row)[0]
        for mix in mixes:
            first, second = beside(base, self._session(mix), row)
            yield second / first * unit

    def _session(self, mix: Mix) -> Session:
        return Session(stripped(self.graph(mix)))


def off(wanted: Mapping[str, Array], found: Mapping[str, Array]) -> float:
    """How far answers are off, squared, in units of the variance of what was wanted.

    >>> off({"y": np.array([0.0, 2.0])}, {"y": np.array([0.0, 1.0])})
    0.5
    """
    parts = [((found[name] - value) ** 2).mean() / max(value.var(), 1e-12) for name, value in wanted.items()]
    return float(np.mean(parts)) if parts else 0.0


def beside(first: Session, second: Session, row: Mapping[str, Array]) -> tuple[float, float]:
    """Milliseconds of one row, one thread: the medians of blocks in which both had their turns."""
    blocks = []
    for turn in range(ROUNDS + 1):
        taken = []
        for session in (first, second):
            start = time.perf_counter()
            for _ in range(CALLS if turn else 1):
                session.run(row)
            taken.append((time.perf_counter() - start) / CALLS * 1e3)
        blocks.append(taken)
    medians = np.median(np.array(blocks[1:]), axis=0)
    return float(medians[0]), float(medians[1])
