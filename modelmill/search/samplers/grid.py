"""Tries every cell of a grid once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from modelmill.contracts import Sampler
from modelmill.search.suggest import ExhaustedError, parameters
from modelmill.space import Walk, cells

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class Grid(Sampler):
    """Every combination of settings once, branch by branch; the search ends when none is left."""

    points: Annotated[int, Meta(ge=1)] = 5
    """Values that stand for a range without steps, its ends included."""

    def __call__(self, walk: Walk, seed: int) -> Any:
        """A sampler for Optuna that gives the first cell which no trial has had; the seed does not matter."""
        return _cells_left()(parameters(walk, cell) for cell in cells(walk, self.points))


@cache
def _cells_left() -> type[BaseSampler]:
    """The sampler's class, made once Optuna is needed."""
    from optuna.samplers import BaseSampler

    class CellsLeft(BaseSampler):  # type: ignore[misc]  # Optuna is not typed for us
        """Gives the cells in order, without those that the study holds already."""

        def __init__(self, every: Iterator[Mapping[str, Any]]) -> None:
            self._every = every
            self._cell: Mapping[str, Any] = {}

        def before_trial(self, study: Any, trial: Any) -> None:
            """Choose the cell of a trial."""
            tried = {_key(old.params) for old in study.get_trials(deepcopy=False) if old.number != trial.number}
            for cell in self._every:
                if _key(cell) not in tried:
                    self._cell = cell
                    return
            raise ExhaustedError

        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            """Nothing is picked before the walk asks for it."""
            return {}

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
            """Nothing is picked before the walk asks for it."""
            return {}

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            """The cell's value."""
            return self._cell[param_name]

    return CellsLeft


def _key(cell: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    return frozenset(cell.items())
