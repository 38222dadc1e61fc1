"""Quotas: how many requests a second and rows a day a key or a tenant may ask for."""

from __future__ import annotations

import re

import msgspec

from modelmill.errors import OutOfBounds

SECONDS = {"s": 1, "second": 1, "m": 60, "minute": 60, "h": 3600, "hour": 3600}
DAYS = ("d", "day")
WINDOWS_S = (1, 60, 3600, 36_000)
"""Times of which one has a whole number of requests, of nearly every rate that somebody writes."""
NEARLY = 1e-9
"""By how much of itself a number may be off a whole one: rates are kept by the second, and so are rounded."""
RATE = re.compile(r"([0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?(?:e[0-9]{1,2})?)/([a-z]+)")


class Quota(msgspec.Struct, frozen=True):
    """What may be asked for; 0 is as much as one likes."""

    requests_per_s: float = 0.0
    burst: int = 0
    """How many requests may come at once; 0 is a tenth of a second's, and one at least."""
    rows_per_day: int = 0

    def over(self, before: Quota) -> Quota:
        """What is stated here, and where nothing is, what was before.

        >>> Quota(requests_per_s=50).over(Quota(100, 20, 1000)).rows_per_day
        1000
        """
        rate = self if self.requests_per_s else before
        return Quota(rate.requests_per_s, rate.burst, self.rows_per_day or before.rows_per_day)

    @property
    def window_s(self) -> int:
        """The shortest time of a few that has a whole number of requests; the longest, where none has.

        >>> Quota(90 / 60).window_s, Quota(100 / 3600).window_s, Quota(100).window_s
        (60, 3600, 1)
        """
        counts = [(window, self.requests_per_s * window) for window in WINDOWS_S]
        whole = (window for window, n in counts if round(n) >= 1 and abs(n - round(n)) <= NEARLY * n)
        return next(whole, WINDOWS_S[-1])

    @property
    def requests_in_window(self) -> int:
        """How many requests `window_s` has, rounded down where it has no whole number, and one at least.

        >>> Quota(90 / 60).requests_in_window, Quota(100 / 3600).requests_in_window
        (90, 100)
        """
        return max(1, int(self.requests_per_s * self.window_s * (1 + NEARLY)))

    @property
    def burst_requests(self) -> int:
        """How many requests may come at once.

        >>> Quota(requests_per_s=100).burst_requests, Quota(requests_per_s=2).burst_requests
        (10, 1)
        """
        return self.burst or max(1, int(self.requests_per_s / 10))


NONE = Quota()


def requests_per_s(text: str) -> float:
    """The rate of `100/s`, `30/m` or `500/h`.

    >>> requests_per_s("30/m")
    0.5
    """
    found = RATE.fullmatch(text.strip().lower())
    if not found or found[2] not in SECONDS:
        raise OutOfBounds(f"--quota {text}", "expected requests in a time", "Write --quota 100/s, 30/m or 500/h.")
    rate = float(found[1]) / SECONDS[found[2]]
    if not 1e-4 * (1 - NEARLY) <= rate <= 1e6:
        said = "is not between 0.36 an hour and a million a second"
        raise OutOfBounds(f"--quota {text}", said, "Such as 100/s or 5000/h.")
    return rate


def rows_per_day(text: str) -> int:
    """The number of `1e6/day`.

    >>> rows_per_day("1e6/day")
    1000000
    """
    found = RATE.fullmatch(text.strip().lower())
    if not found or found[2] not in DAYS or not 1 <= float(found[1]) <= 1e15:
        raise OutOfBounds(f"--rows {text}", "expected rows a day", "Write --rows 100000/day.")
    return int(float(found[1]))


def words(quota: Quota) -> str:
    """A quota as people read it.

    >>> words(Quota(100.0, rows_per_day=1000)), words(Quota(100 / 3600, burst=50)), words(NONE)
    ('100/s, 1,000 rows/day', '100/h, 50 at once', '-')
    """
    parts = [rate(quota)] if quota.requests_per_s else []
    parts += [f"{quota.burst:,} at once"] if quota.burst else []
    parts += [f"{quota.rows_per_day:,} rows/day"] if quota.rows_per_day else []
    return ", ".join(parts) or "-"


def rate(quota: Quota) -> str:
    """A rate of requests as it is written, by the second, the minute or the hour.

    >>> rate(Quota(100.0)), rate(Quota(90 / 60)), rate(Quota(0.5 / 3600))
    ('100/s', '90/m', '0.5/h')
    """
    unit, seconds = {1: ("s", 1), 60: ("m", 60)}.get(quota.window_s, ("h", 3600))
    return f"{quota.requests_per_s * seconds:.12g}/{unit}"
