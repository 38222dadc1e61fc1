"""What is searched: the tables of real training runs, and BBOB's functions in five dimensions. All to be minimized.

A problem's space is declared once, for every searcher: a table's as `Setting`s, a function's as five numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from table import Setting, Table, load, visit

CHECKPOINTS = (1, 2, 5, 10, 20, 50, 100)
"""Evaluations after which the best so far is written down."""

DIMENSIONS = 5

BOUND = 5.0
"""BBOB's functions live between minus and plus this in every dimension."""

Evaluate = Callable[[int, int, list[float]], float]
"""Function, instance and point: by how much its value is above the optimum's."""


@dataclass(frozen=True)
class TableProblem:
    """A cell's mean loss, looked up."""

    table: Table

    @property
    def settings(self) -> tuple[Setting, ...]:
        """The space."""
        return self.table.settings

    def answered(self, ask: Callable[[Setting], int | str]) -> dict[str, int | str]:
        """The answers to every setting that exists."""
        return visit(self.table.settings, ask)[0]

    def loss(self, answers: Mapping[str, Any]) -> float:
        """The loss of the cell."""
        return float(self.table.loss[self.table.row(answers)])


@dataclass(frozen=True)
class FunctionProblem:
    """One instance of one of BBOB's functions, above its optimum."""

    function: int
    instance: int
    evaluate: Evaluate

    @property
    def names(self) -> list[str]:
        """Names of the coordinates."""
        return [f"x{i}" for i in range(DIMENSIONS)]

    def loss(self, answers: Mapping[str, Any]) -> float:
        """The value above the optimum."""
        return self.evaluate(self.function, self.instance, [float(answers[name]) for name in self.names])


Problem = TableProblem | FunctionProblem


def problem(name: str, seed: int, evaluate: Evaluate) -> Problem:
    """A table by its name, or `bbob_f7`: there the instance goes with the seed."""
    if name.startswith("bbob_f"):
        return FunctionProblem(int(name.removeprefix("bbob_f")), seed + 1, evaluate)
    return TableProblem(load(name))


def curve(losses: list[float]) -> dict[str, float]:
    """The best so far at the checkpoints."""
    return {str(count): min(losses[:count]) for count in CHECKPOINTS if count <= len(losses)}
