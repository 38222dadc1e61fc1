"""Where an id falls between 0 and 1: the same id always at the same place, and ids spread evenly."""

from __future__ import annotations

from hashlib import blake2b

WHOLE = float(2**64)


def place(id: str, salt: str = "") -> float:
    """The place of an id in [0, 1); another salt is another, independent place.

    >>> place("caller 7") == place("caller 7"), place("caller 7") == place("caller 7", "other")
    (True, False)
    """
    digest = blake2b(id.encode("utf-8", "replace"), digest_size=8, key=salt.encode()[:64]).digest()
    return int.from_bytes(digest, "big") / WHOLE
