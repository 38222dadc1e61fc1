"""How a check says that what came is not what was wanted, or that it has nothing to say."""

from __future__ import annotations

from typing import Any

import msgspec


class Deviation(Exception):
    """What came was not what the specification says; the words say what came."""


class LeftOut(Exception):
    """The check says nothing of this server or this model; the words say why."""


def wanted(holds: bool, came: str) -> None:
    """Raise Deviation with what came, unless it holds."""
    if not holds:
        raise Deviation(came)


def shown(value: Any) -> str:
    r"""A value in a few words, without letters that a terminal would obey.

    >>> shown({"a": 1})
    '{"a":1}'
    >>> shown(b"\x1b[2J\0 a")
    '[2J a'
    """
    if isinstance(value, bytes):
        text = value[:120].decode("utf-8", "replace")
    else:
        text = msgspec.json.encode(value, enc_hook=str).decode()
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return (text if len(text) <= 100 else text[:97] + "...") or "nothing"
