"""Spans of time and moments to come, as people write them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

from modelmill.errors import OutOfBounds

SPAN = re.compile(r"([0-9]{1,9})([smhdw])")
SPAN_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
DAY_MS = 86_400_000
EPOCH_DAY = date(1970, 1, 1).toordinal()
LAST_MS = (date.max.toordinal() - EPOCH_DAY + 1) * DAY_MS - 1
"""The last moment of the year 9999, beyond which there are no dates."""


def span_s(flag: str, text: str) -> int:
    """The seconds of `90s`, `15m`, `12h`, `30d` or `2w`.

    >>> span_s("--grace", "2h")
    7200
    """
    found = SPAN.fullmatch(text.strip())
    if not found:
        raise OutOfBounds(f"{flag} {text}", "is not a time span", f"Write {flag} 30d, 12h, 15m or 90s.")
    return int(found[1]) * SPAN_S[found[2]]


def moment_ms(flag: str, text: str, now_ms: int) -> int:
    """When `30d` have passed, or the moment of an ISO date or time in UTC; a date alone is its end.

    Raises OutOfBounds, also for what is not to come, or not before the year 10000.

    >>> moment_ms("--expires", "1970-01-01", 0), moment_ms("--expires", "1d", 0)
    (86400000, 86400000)
    """
    if SPAN.fullmatch(text.strip()):
        return to_come(f"{flag} {text}", now_ms + span_s(flag, text) * 1000, now_ms)
    try:
        if len(text) == 10:
            at_ms = (date.fromisoformat(text).toordinal() - EPOCH_DAY + 1) * DAY_MS
        else:
            at = datetime.fromisoformat(text)
            at_ms = int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        hint = f"Write {flag} 30d, {flag} 2027-01-31 or {flag} 2027-01-31T12:00."
        raise OutOfBounds(f"{flag} {text}", "is neither a time span nor a date", hint) from None
    return to_come(f"{flag} {text}", min(at_ms, LAST_MS) if len(text) == 10 else at_ms, now_ms)


def to_come(where: str, at_ms: int, now_ms: int) -> int:
    """A moment after the present one that has a date; raises OutOfBounds for any other."""
    if at_ms <= now_ms:
        raise OutOfBounds(where, "is in the past", "Write a time to come, such as 30d.")
    if at_ms > LAST_MS:
        raise OutOfBounds(where, "is after the year 9999, the last one with dates", "Leave it out: it never ends then.")
    return at_ms
