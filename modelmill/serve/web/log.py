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


def page(keyring: Keyring | None, query: bytes) -> list[dict[str, Any]]:
    """The rows after `since` in the query, at most `limit`; without `since` the newest ones. Raises RequestError."""
    asked = parse_qs(query.decode("latin-1"))
    since, limit = _number(asked, "since"), _number(asked, "limit")
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
    number = whole(given[-1])
    if number is None:
        raise RequestError(name, f"{given[-1][:40]!r} is not a number", f"Write ?{name}=100.")
    return number
