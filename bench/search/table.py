"""A table of real training runs: a space with conditions, and for every cell of it the loss and the time of its fit.

One declaration of the space serves every searcher: `Table.visit` asks for one setting after the other, and only for
those that exist. Ordered settings are asked for as an index into their values, the others as a label, so that no
searcher knows more of a scale than another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "tables"

ABSENT = 255
"""Stands in a cell for a setting that does not exist in its branch."""


@dataclass(frozen=True)
class Setting:
    """One choice: its values, whether they stand in an order, and for which values of others it exists."""

    name: str
    values: tuple[Any, ...]
    ordered: bool = True
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def exists(self, values: Mapping[str, Any]) -> bool:
        """Whether it is to be chosen, given the values chosen before."""
        return all(name in values and values[name] in wanted for name, wanted in self.when.items())

    def value(self, answer: int | str) -> Any:
        """What an answer, index or label, stands for."""
        return self.values[int(answer)] if self.ordered else answer

    def place(self, answer: int | str) -> int:
        """The index of an answer."""
        return int(answer) if self.ordered else self.values.index(answer)


def number(name: str, *values: float, when: Mapping[str, tuple[Any, ...]] | None = None) -> Setting:
    """An ordered setting."""
    return Setting(name, values, True, when or {})


def option(name: str, *values: str, when: Mapping[str, tuple[Any, ...]] | None = None) -> Setting:
    """A setting of labels."""
    return Setting(name, values, False, when or {})


Ask = Callable[[Setting], int | str]


def visit(settings: tuple[Setting, ...], ask: Ask) -> tuple[dict[str, int | str], dict[str, Any]]:
    """Ask for every setting that exists: the answers, and the values they stand for."""
    answers: dict[str, int | str] = {}
    values: dict[str, Any] = {}
    for setting in settings:
        if setting.exists(values):
            answers[setting.name] = ask(setting)
            values[setting.name] = setting.value(answers[setting.name])
    return answers, values


def cells(settings: tuple[Setting, ...]) -> Iterator[dict[str, Any]]:
    """Every cell, as values, each once."""

    def below(rest: tuple[Setting, ...], values: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if not rest:
            yield values
        elif not rest[0].exists(values):
            yield from below(rest[1:], values)
        else:
            for value in rest[0].values:
                yield from below(rest[1:], {**values, rest[0].name: value})

    return below(settings, {})


@dataclass(frozen=True)
class Table:
    """A space and what every cell of it came to; `note` says how the runs were made."""

    name: str
    note: str
    settings: tuple[Setting, ...]
    places: np.ndarray
    """(cells, settings) indices of values; `ABSENT` where a setting does not exist."""
    losses: np.ndarray
    """(cells, folds)."""
    seconds: np.ndarray
    """(cells,) of CPU, all folds."""

    def __post_init__(self) -> None:
        found = {row.tobytes(): i for i, row in enumerate(self.places)}
        object.__setattr__(self, "_found", found)
        object.__setattr__(self, "_loss", self.losses.astype(float).mean(axis=1).round(6))

    @property
    def loss(self) -> np.ndarray:
        """(cells,) mean loss over the folds."""
        return self._loss  # type: ignore[attr-defined,no-any-return]

    def row(self, answers: Mapping[str, int | str]) -> int:
        """The cell that some answers lead to."""
        places = [s.place(answers[s.name]) if s.name in answers else ABSENT for s in self.settings]
        return self._found[np.array(places, np.uint8).tobytes()]  # type: ignore[attr-defined,no-any-return]

    def save(self) -> Path:
        """Write it to its file, compressed."""
        about = {"note": self.note, "settings": [asdict(setting) for setting in self.settings]}
        path = FOLDER / f"{self.name}.npz"
        np.savez_compressed(path, about=json.dumps(about), places=self.places, losses=self.losses, seconds=self.seconds)
        return path


def load(name: str) -> Table:
    """Read a table."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        about = json.loads(str(file["about"]))
        settings = tuple(
            Setting(s["name"], tuple(s["values"]), s["ordered"], {key: tuple(v) for key, v in s["when"].items()})
            for s in about["settings"]
        )
        return Table(name, about["note"], settings, file["places"], file["losses"], file["seconds"])


def names() -> list[str]:
    """The tables that are there."""
    return sorted(path.stem for path in FOLDER.glob("*.npz"))
