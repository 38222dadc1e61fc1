"""Who of several servers drives the rollouts: one at a time, and another one when it has fallen silent.

No clock is compared with another's: the holder moves a beat, and whoever has seen the same beat for too long, by its
own clock, takes over with the next token. A holder that was frozen finds another token, and does nothing.
"""

from __future__ import annotations

from typing import NamedTuple


class Lease(NamedTuple):
    """Who drives; nobody where the holder is empty."""

    holder: str
    token: int
    beat: int


class Seen(NamedTuple):
    """A lease, and since when it has looked like this, on the own monotonic clock."""

    lease: Lease
    since: float


def see(seen: Seen | None, lease: Lease, now: float) -> Seen:
    """What is known of the lease after another look."""
    return seen if seen is not None and seen.lease == lease else Seen(lease, now)


def claim(seen: Seen, me: str, now: float, patience_s: float) -> Lease | None:
    """The lease as this server writes it, or None where it is another's.

    >>> claim(Seen(Lease("a", 1, 7), 0.0), "a", 1.0, 5.0)
    Lease(holder='a', token=1, beat=8)
    >>> claim(Seen(Lease("a", 1, 7), 0.0), "b", 1.0, 5.0)
    >>> claim(Seen(Lease("a", 1, 7), 0.0), "b", 5.0, 5.0)
    Lease(holder='b', token=2, beat=0)
    """
    holder, token, beat = seen.lease
    if holder == me:
        return Lease(me, token, beat + 1)
    if not holder or now - seen.since >= patience_s:
        return Lease(me, token + 1, 0)
    return None
