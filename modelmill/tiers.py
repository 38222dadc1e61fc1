"""Tiers: what a tenant of a service class may take of the machine, in figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from modelmill.errors import UnknownName

KB = 1000
MB = 1000 * KB
GB = 1000 * MB


@dataclass(frozen=True, slots=True)
class Tier:
    """A service class. Limits are a tenant's, over all of its keys, except those of one request: rows and payload."""

    name: str
    share: float
    """The weight of the tenant's rows where several tenants want the machine at once."""
    memory_bytes: int
    """What the tenant's own models may take in memory together."""
    storage_bytes: int
    """What the files of all versions of the tenant's own models may have together, expanded."""
    batch_rows: int
    """The most rows in one request."""
    queue_requests: int
    """The most requests that wait for the engine at a time; further ones are refused."""
    payload_bytes: int
    """The largest request."""
    infers_only: bool = False
    """Whether keys serve to infer and to nothing else, whatever their roles say."""


BASIC = Tier("basic", 1, 256 * MB, 1 * GB, 256, 16, 1 * MB, infers_only=True)
"""For embedded devices and microcontrollers: inference only, a few rows at a time."""

STANDARD = Tier("standard", 4, 2 * GB, 10 * GB, 4096, 64, 16 * MB)
"""For web and mobile applications."""

ADVANCED = Tier("advanced", 16, 16 * GB, 100 * GB, 1_000_000, 256, 64 * 1024 * 1024)
"""For batch inference and work on models; the payload is the service's own limit."""

TIERS = {tier.name: tier for tier in (BASIC, STANDARD, ADVANCED)}


def tier_of(name: str) -> Tier:
    """The tier of a name.

    >>> tier_of("basic").batch_rows
    256
    """
    if name not in TIERS:
        raise UnknownName.among("tier", "tier", name, TIERS)
    return TIERS[name]


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a model's name is among those that a tenant has for its own.

    >>> matches("digits", ["dig*"]), matches("digits", [])
    (True, False)
    """
    return any(fnmatchcase(name, pattern) for pattern in patterns)
