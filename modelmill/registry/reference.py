"""How a model is named: NAME, NAME@3 or NAME@alias, and which names may be given."""

from __future__ import annotations

import re
from typing import NamedTuple

from modelmill.errors import OutOfBounds
from modelmill.version import LIVE

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Names of models and files: nothing that a path, a URL or a shell could take for something else."""

ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,99}")
"""An alias starts with a letter, so that no number can be taken for one."""


class Reference(NamedTuple):
    """What a person typed: a name, and a number or an alias."""

    name: str
    number: int | None
    alias: str


def parse(text: str) -> Reference:
    """The parts of NAME, NAME@3 or NAME@alias; whatever else it is, it names nothing that exists.

    >>> parse("digits")
    Reference(name='digits', number=None, alias='live')
    >>> parse("digits@3").number
    3
    """
    name, _, rest = text.partition("@")
    # Fewer digits than SQL's integers hold, and ASCII ones only.
    if re.fullmatch(r"[0-9]{1,9}", rest):
        return Reference(name, int(rest), "")
    return Reference(name, None, rest if "@" in text else LIVE)


def is_name(text: str) -> bool:
    """Whether a model, or a file of one, may have that name.

    >>> is_name("digits-2"), is_name("a..b"), is_name("a/b")
    (True, False, False)
    """
    return NAME.fullmatch(text) is not None and ".." not in text


def check_name(name: str, where: str = "name") -> None:
    """Refuse a name that cannot be given to a model or to a file of one."""
    if not is_name(name):
        raise OutOfBounds(
            f"{where} = {name[:120]!r}",
            "a name has 1 to 100 of a-z, A-Z, 0-9, '.', '_' and '-', no '..', and starts with a letter or digit",
            "Try --name with such a name.",
        )


def check_alias(alias: str) -> None:
    """Refuse an alias that cannot be told from a number, or that cannot be typed."""
    if not ALIAS.fullmatch(alias):
        raise OutOfBounds(
            f"alias = {alias[:120]!r}",
            "an alias has 1 to 100 of a-z, A-Z, 0-9, '.', '_' and '-', and starts with a letter",
            "The usual one is 'live'.",
        )
