"""What answers say of a caller's quota."""

from __future__ import annotations

import time
from dataclasses import replace

from modelmill.serve.access.caller import Caller
from modelmill.serve.web.http import Reply


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


def told(reply: Reply, caller: Caller) -> Reply:
    """An answer with what is left of the caller's quota."""
    return reply if caller.gate is None else replace(reply, headers=(*reply.headers, *headers(caller)))
