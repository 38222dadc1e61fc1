"""Sizes of memory as people write them."""

from __future__ import annotations

import re

from modelmill.errors import OutOfBounds

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}

BUDGET_BYTES = 1_000_000
"""The least that a process may have for its models: with less, none could be loaded."""


def bytes_of(text: str, processes: int = 1) -> int:
    """The bytes that a person wrote, for so many processes together; 0 for nothing written. Raises OutOfBounds.

    >>> bytes_of("500MB"), bytes_of("1.5 GB"), bytes_of("")
    (500000000, 1500000000, 0)
    """
    if not text.strip():
        return 0
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *([KMGT]?B?)", text.strip().upper())
    where = f"--memory-budget = {text[:40]!r}"
    if found is None:
        raise OutOfBounds(where, "expected a size such as 500MB or 4GB", "")
    unit = found[2] if found[2] in UNITS else f"{found[2]}B"
    size = int(float(found[1]) * UNITS[unit])
    if size < BUDGET_BYTES * processes:
        least = f"{BUDGET_BYTES * processes // 10**6}MB"
        hint = f"Did you mean {found[1]}MB?" if size and found[2] in ("", "B") else ""
        raise OutOfBounds(where, f"expected at least {least}, or no model could be loaded", hint)
    return size
