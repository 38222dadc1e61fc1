"""The audit log over HTTP."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import msgspec

from modelmill.errors import RequestError
from modelmill.serve.access.keyring import Keyring
from modelmill.serve.request import whole
from modelmill.store import audit

MOST = 1000
"""Rows of one answer."""
NAMES = ("since", "limit")
"""What may be asked for."""


def page(keyring: Keyring | None, query: bytes) -> list[dict[str, Any]]:
    """The rows after `since` in the query, at most `limit`; without `since` the newest ones. Raises RequestError."""
    asked = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    for name in asked:
        if name not in NAMES:
            raise RequestError("query", f"nothing is asked by {name[:40]!r}", f"There are {' and '.join(NAMES)}.")
    since, limit = (_number(asked, name) for name in NAMES)
    if limit == 0:
        raise RequestError("limit", "is 0, and asks for nothing", "Write ?limit=100.")
    if keyring is None:
        return []
    with keyring.database.reading() as connection:
        deeds = audit.read(connection, since, min(limit or MOST, MOST))
    found: list[dict[str, Any]] = msgspec.to_builtins(deeds)
    return found


def _number(asked: dict[str, list[str]], name: str) -> int | None:
    given = asked.get(name)
    if given is None:
        return None
    if len(given) > 1:
        raise RequestError(name, "comes twice", "Send it once.")
    number = whole(given[0])
    if number is None:
        raise RequestError(name, f"{given[0][:40]!r} is not a number", f"Write ?{name}=100.")
    return number
