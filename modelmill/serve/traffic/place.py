"""What tells callers apart, and where one falls between 0 and 1: always at the same place, and evenly spread."""

from __future__ import annotations

from hashlib import blake2b
from typing import Annotated

from msgspec import Meta

WHOLE = float(2**64)

_APART = r"(tenant|key|header:[A-Za-z0-9-]{1,60}|cookie:[A-Za-z0-9_.-]{1,60})"
_SAID = "tenant, key, header:NAME or cookie:NAME"

By = Annotated[str, Meta(pattern=f"^{_APART}$", description=_SAID)]
"""What tells callers apart."""

ByOrNothing = Annotated[str, Meta(pattern=f"^{_APART}?$", description=f"{_SAID}, or nothing")]
"""What tells callers apart, if anything does."""


def place(id: str, salt: str = "") -> float:
    """The place of an id in [0, 1); another salt is another, independent place.

    >>> place("caller 7") == place("caller 7"), place("caller 7") == place("caller 7", "other")
    (True, False)
    """
    digest = blake2b(id.encode("utf-8", "replace"), digest_size=8, key=salt.encode()[:64]).digest()
    return int.from_bytes(digest, "big") / WHOLE
