"""Seeds that follow from a run's seed and from what they are for."""

from __future__ import annotations

import hashlib


def derive(seed: int, *purpose: int | str) -> int:
    """A seed of 32 bits for one purpose: equal for equal arguments, unrelated for others.

    >>> derive(0, "trial", 1) == derive(0, "trial", 1), derive(0, "trial", 1) == derive(0, "trial", 2)
    (True, False)
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")
