"""Quotas: how many requests a second and rows a day a key or a tenant may ask for."""

from __future__ import annotations

import re

import msgspec

from modelmill.errors import OutOfBounds

SECONDS = {"s": 1, "second": 1, "m": 60, "minute": 60, "h": 3600, "hour": 3600}
DAYS = ("d", "day")
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
    if not 1e-4 <= rate <= 1e6:
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

    >>> words(Quota(100.0, rows_per_day=1000)), words(NONE)
    ('100/s, 1,000 rows/day', '-')
    """
    parts = [f"{quota.requests_per_s:g}/s"] if quota.requests_per_s else []
    parts += [f"{quota.rows_per_day:,} rows/day"] if quota.rows_per_day else []
    return ", ".join(parts) or "-"
