"""What was seen of a candidate beside the live version, as counts that add up over seconds, servers and steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

FINENESS = 1.05
"""Times are counted in classes, each so many times as long as the one before."""


class Tally(msgspec.Struct, frozen=True, omit_defaults=True):
    """How often a look spoke against the candidate, for it, and neither."""

    against: int = 0
    favour: int = 0
    neither: int = 0

    @property
    def looks(self) -> int:
        """How many looks there were."""
        return self.against + self.favour + self.neither

    def plus(self, other: Tally) -> Tally:
        """Both together.

        >>> Tally(1, 2, 3).plus(Tally(1)).looks
        7
        """
        return Tally(self.against + other.against, self.favour + other.favour, self.neither + other.neither)


class Counts(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that is counted of a candidate and the live version; two of them add up to one.

    Times are maps of a class of duration to how many runs took so long: see `class_of`.
    """

    live: int = 0
    """Requests that the live version answered, or failed to."""
    live_failed: int = 0
    candidate: int = 0
    """Requests that the candidate answered, or failed to: the clients saw them."""
    candidate_failed: int = 0
    pairs: int = 0
    """Requests that both versions ran, unseen, one after the other."""
    dropped: int = 0
    """Requests that were not mirrored, for want of time."""
    errors: Tally = Tally()
    """Pairs in which only the candidate failed or gave invalid answers (against), or only the live one (favour)."""
    slower: Tally = Tally()
    """Pairs in which the candidate took longer by more than is allowed (against), or did not."""
    tail: Tally = Tally()
    """Pairs in which only the candidate was slower than the live one's p95 (against), or only the live one was."""
    differ: Tally = Tally()
    """One row of each pair, drawn at random: whether the answers differ (against) or agree."""
    rows: int = 0
    """Rows of which the answers were compared."""
    rows_differ: int = 0
    live_times: dict[str, int] = {}
    candidate_times: dict[str, int] = {}
    named: int = 0
    """Requests that said who calls, where one caller is to meet one version: not exact, but 0 where none did."""
    broken: str = ""
    """Why the candidate cannot be loaded, where it cannot."""
    crowded: str = ""
    """Why there is no room for it now, where there is none."""

    def plus(self, other: Counts) -> Counts:
        """Both together; the order does not matter."""
        both: dict[str, Any] = {
            name: _sum(getattr(self, name), getattr(other, name)) for name in self.__struct_fields__
        }
        return Counts(**both)


def total(parts: Iterable[Counts]) -> Counts:
    """All parts together.

    >>> total([Counts(pairs=2), Counts(pairs=3, live_times={"0": 1})]).pairs
    5
    """
    found = Counts()
    for part in parts:
        found = found.plus(part)
    return found


def _sum(first: Any, second: Any) -> Any:
    if isinstance(first, Tally):
        return first.plus(second)
    if isinstance(first, dict):
        return {key: first.get(key, 0) + second.get(key, 0) for key in sorted({*first, *second})}
    return max(first, second) if isinstance(first, str) else first + second


def class_of(seconds: float) -> str:
    """The class of a duration, as a key of JSON: the number of microseconds on a scale of ratios.

    >>> class_of(0.001), round(seconds_of(class_of(0.001)) * 1000, 3)
    ('142', 1.021)
    """
    return str(math.ceil(math.log(max(seconds * 1e6, 1.0), FINENESS)))


def seconds_of(name: str) -> float:
    """The longest duration of a class."""
    return float(FINENESS ** int(name)) / 1e6


def quantile(times: Mapping[str, int], share: float) -> float | None:
    """The duration, in seconds, that this share of the runs did not exceed; None without runs.

    >>> quantile({"100": 3, "120": 1}, 0.5) == seconds_of("100"), quantile({}, 0.5)
    (True, None)
    """
    left = share * sum(times.values())
    for name in sorted(times, key=int):
        left -= times[name]
        if left <= 0:
            return seconds_of(name)
    return None
