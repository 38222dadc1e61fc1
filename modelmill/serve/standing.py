"""What an answer says of its caller's quota, over HTTP in its headers and over gRPC in its trailing metadata."""

from __future__ import annotations

import time

from modelmill.serve.access.caller import Caller


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
