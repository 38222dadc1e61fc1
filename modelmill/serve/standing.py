"""What goes with an answer, over HTTP in its headers and over gRPC in its trailing metadata: quota and version."""

from __future__ import annotations

import time

from modelmill.serve.access.caller import Caller

VERSION = "modelmill-version"
"""Names the version which answered, or failed to."""


def version(name: str, number: str) -> tuple[tuple[str, str], ...]:
    """The version that an answer, or a failure, is of; nothing where none was picked.

    >>> version("iris", "2"), version("iris", "")
    ((('modelmill-version', 'iris@2'),), ())
    """
    return ((VERSION, f"{name}@{number}"),) if name and number else ()


def headers(caller: Caller) -> tuple[tuple[str, str], ...]:
    """What is left of the caller's quota; nothing where there is none."""
    if caller.gate is None:
        return ()
    standing = caller.gate.standing(time.monotonic_ns(), time.time())
    return (
        ("ratelimit-limit", str(standing.limit)),
        ("ratelimit-policy", f"{standing.limit};w={standing.window_s}"),
        ("ratelimit-remaining", str(standing.remaining)),
        ("ratelimit-reset", str(standing.reset_s)),
    )
