"""How a call over gRPC ends that went wrong: codes, words, and when to come again."""

from __future__ import annotations

import math
from dataclasses import dataclass

from modelmill.errors import (
    DeadlineExceeded,
    Draining,
    Forbidden,
    MillError,
    ModelError,
    NotServed,
    Overloaded,
    RequestError,
    TooLarge,
    Unavailable,
    Unidentified,
)
from modelmill.protocol.schema import tagged, varint
from modelmill.serve.access.veil import outward


@dataclass(frozen=True, slots=True)
class Status:
    """How a call ended that went wrong: gRPC's code, words, and what goes with them."""

    code: int
    message: str
    trailers: tuple[tuple[str, str | bytes], ...] = ()


INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED = 3, 4, 5, 7, 8
UNIMPLEMENTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 12, 13, 14, 16

CODES: tuple[tuple[type[MillError], int], ...] = (
    (Unidentified, UNAUTHENTICATED),
    (Forbidden, PERMISSION_DENIED),
    (NotServed, NOT_FOUND),
    (TooLarge, RESOURCE_EXHAUSTED),
    (Draining, UNAVAILABLE),
    (Unavailable, UNAVAILABLE),
    (Overloaded, RESOURCE_EXHAUSTED),
    (DeadlineExceeded, DEADLINE_EXCEEDED),
    (RequestError, INVALID_ARGUMENT),
)
"""Errors that are the client's, or the hour's; any other is ours."""


AS_HTTP = {
    UNAUTHENTICATED: 401,
    PERMISSION_DENIED: 403,
    INVALID_ARGUMENT: 400,
    NOT_FOUND: 404,
    UNIMPLEMENTED: 404,
    RESOURCE_EXHAUSTED: 429,
    INTERNAL: 500,
    UNAVAILABLE: 503,
    DEADLINE_EXCEEDED: 504,
}
"""What HTTP has for a status."""

TOO_LARGE = 413
"""What HTTP has for a message over a stated size: in gRPC it shares a status with what finds no room."""


def as_http(error: MillError) -> int:
    """The code by which figures count an error, so that all faces are counted alike."""
    return TOO_LARGE if isinstance(error, TooLarge) else AS_HTTP[status(error).code]


class Unimplemented(RequestError):
    """The method is not offered."""


def status(error: MillError) -> Status:
    """What a call is told of an error."""
    if isinstance(error, Unimplemented):
        return Status(UNIMPLEMENTED, str(error))
    code = next((code for kind, code in CODES if isinstance(error, kind)), INTERNAL)
    if code == INTERNAL:
        words = f"the model failed: {error.message}" if isinstance(error, ModelError) else str(outward(error))
        return Status(code, words)
    if isinstance(error, Overloaded) and not isinstance(error, Draining):
        seconds = float(getattr(error, "seconds", 1.0))
        return Status(code, str(error), _retry(code, str(error), seconds))
    return Status(code, str(error))


def _retry(code: int, message: str, seconds: float) -> tuple[tuple[str, str | bytes], ...]:
    """When to come again, as gRPC's own clients read it, and as google.rpc.RetryInfo."""
    whole, nanos = int(seconds), round(seconds % 1 * 1e9)
    delay = _number(1, whole) + _number(2, nanos)
    info = tagged(1, b"type.googleapis.com/google.rpc.RetryInfo") + tagged(2, tagged(1, delay))
    details = _number(1, code) + tagged(2, message.encode()) + tagged(3, info)
    return ("grpc-retry-pushback-ms", str(math.ceil(seconds * 1000))), ("grpc-status-details-bin", details)


def _number(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)
