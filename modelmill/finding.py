"""Something that a check or a watch noticed, in words and in figures."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Severity = Literal["note", "warning", "fatal"]


class Finding(msgspec.Struct, frozen=True):
    """What was noticed, where, how bad it is, and what to do."""

    check: str
    severity: Severity
    where: str
    message: str
    hint: str = ""
    figures: dict[str, Any] = {}
