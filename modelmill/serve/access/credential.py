"""A key as its holder has it: `mm_ID_SECRET`. The id is public, and 256 random bits are the secret.

A secret of 256 random bits cannot be guessed, so that one SHA-256 keeps it as well as a slow hash would keep a
password, and costs a service half a microsecond in place of a tenth of a second.
"""

from __future__ import annotations

import hashlib
import re
import secrets

PREFIX = "mm"
FORM = re.compile(r"mm_([0-9a-f]{8})_([0-9A-Za-z_-]{43})")


def fresh_id() -> str:
    """A new public id."""
    return secrets.token_hex(4)


def fresh(id: str) -> str:
    """A new key with that id."""
    return f"{PREFIX}_{id}_{secrets.token_urlsafe(32)}"


def id_of(key: str) -> str | None:
    """The public id of a key; None for what is no key.

    >>> id_of("mm_0a1b2c3d_" + "x" * 43), id_of("Bearer")
    ('0a1b2c3d', None)
    """
    found = FORM.fullmatch(key)
    return found[1] if found else None


def digest(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()
