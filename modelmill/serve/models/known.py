"""Which version every reference stands for, as the registry last said: a look-up in memory for every request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modelmill.errors import UnknownModel, UsageError
from modelmill.serve.models.shelf import Shelf
from modelmill.version import LIVE


class Known:
    """The models that are served, and where their aliases stand; it follows the registry by what changed.

    references: NAME, NAME@3 or NAME@alias, each what its NAME stands for here; none is every model with a live version.
    """

    def __init__(self, shelf: Shelf, references: Sequence[str] = ()) -> None:
        self.shelf = shelf
        self.wanted: dict[str, str] = {}
        for name, _, label in (given.partition("@") for given in references):
            if self.wanted.setdefault(name, label or LIVE) != (label or LIVE):
                hint = "Every version answers as NAME@NUMBER; name the one that NAME alone is to reach."
                raise UsageError(name, f"is asked for as {self.wanted[name]} and as {label or LIVE}", hint)
        self.numbers: dict[str, int] = {}
        """What NAME alone stands for."""
        self.aliases: dict[str, Mapping[str, int]] = {}
        self.last = 0
        self.stamp: Any = None

    def start(self) -> None:
        """Read everything once. Raises UnknownModel for a wanted name that the registry does not have."""
        for name, label in self.wanted.items():
            self.shelf.find(f"{name}@{label}")
        self.follow()

    def follow(self) -> Sequence[str]:
        """The names that changed since the last time, after which all here is as in the registry."""
        stamp = self.shelf.stamp()
        if stamp == self.stamp:
            return ()
        last, changed = self.shelf.standing(self.last)
        if last < self.last:  # the database is an older one, brought back
            last, all_of_them = self.shelf.standing()
            changed = {**{name: {} for name in self.aliases}, **all_of_them}
        self._take(changed if not self.wanted else {name: changed[name] for name in self.wanted if name in changed})
        self.last, self.stamp = last, stamp
        return list(changed)

    def _take(self, changed: Mapping[str, Mapping[str, int]]) -> None:
        for name, aliases in changed.items():
            number = self._number(name, aliases)
            if number is None:
                self.aliases.pop(name, None)
                self.numbers.pop(name, None)
            else:
                self.aliases[name] = aliases
                self.numbers[name] = number

    def _number(self, name: str, aliases: Mapping[str, int]) -> int | None:
        label = self.wanted.get(name, LIVE)
        if not is_number(label):
            return aliases.get(label)
        try:
            return self.shelf.find(f"{name}@{label}").number
        except UnknownModel:
            return None

    def key(self, reference: str) -> tuple[str, int] | None:
        """The name and the number of a reference; None where the name is not served, or the alias not known here."""
        name, at, label = reference.partition("@")
        number = self.numbers.get(name)
        if number is None or not at:
            return None if number is None else (name, number)
        if is_number(label):
            return name, int(label)
        stands = self.aliases[name].get(label)
        return None if stands is None else (name, stands)

    def names(self) -> Iterable[str]:
        """What is served, sorted."""
        return sorted(self.numbers)


def is_number(label: str) -> bool:
    """Whether what follows the @ is a version's number rather than an alias."""
    return label.isascii() and label.isdigit() and len(label) < 10
