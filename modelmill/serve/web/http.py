"""One request and its answer: bodies within limits, errors as `{"error": ...}`, and from a path to its handler."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

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
from modelmill.serve import standing
from modelmill.serve.access.caller import ANYONE, Caller
from modelmill.serve.access.door import discreet
from modelmill.serve.access.needs import Need, need
from modelmill.serve.access.veil import outward
from modelmill.serve.packed import ENCODINGS
from modelmill.serve.request import whole

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON = "application/json"
BODY_SECONDS = 30.0
"""How long a client may take for a body, beside what its size allows."""

BODY_BYTES_S = 10_000
"""As slowly as this a body may come: whoever sends a byte a minute would hold on to what has come for ever."""

ALIASES = {"x-gzip": "gzip"}
"""Ways of packing by the names that they had before."""

LINGER_SECONDS = 5.0
"""How long the rest of a body is taken after its refusal: whoever is still sending would not hear the answer on a
connection that is reset."""


class ClientLeft(Exception):
    """The client has left before its answer."""


class SlowBody(RequestError):
    """The client takes too long to send its body."""


class Conflict(RequestError):
    """What is asked for cannot be while something else is so."""


class PackedBody(RequestError):
    """The body is packed in a way that is not taken."""


@dataclass(frozen=True)
class Reply:
    """An answer: status, body, its type, and further headers."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    which: tuple[str, str] = ("", "")
    """Model and version that answered, for the figures."""

    def plus(self, *headers: tuple[str, str]) -> Reply:
        """The answer with more headers."""
        return Reply(self.status, self.body, self.content_type, (*self.headers, *headers), self.which)


def values(headers: Sequence[tuple[bytes, bytes]], name: str) -> list[str]:
    """The values of a header, as often as it comes."""
    wanted = name.lower().encode()
    return [value.decode("latin-1").strip() for key, value in headers if key == wanted]


def header(headers: Sequence[tuple[bytes, bytes]], name: str) -> str | None:
    """The value of a header; None without it. Raises RequestError if it comes twice."""
    found = values(headers, name)
    if len(found) > 1:
        raise RequestError(name, "comes twice", "Send it once.")
    return found[0] if found else None


def wants_page(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether the client says that it takes HTML, as browsers do where a person goes: others are told in JSON."""
    return any("text/html" in value for value in values(headers, "accept"))


@dataclass(eq=False)
class Call:
    """One request on its way: what was asked, and how to hear from the client."""

    method: str
    path: str
    names: dict[str, str]
    """The parts of the path that its pattern names."""
    headers: Sequence[tuple[bytes, bytes]]
    receive: Receive
    body_limit: int
    caller: Caller = ANYONE
    """Who asks."""
    origin: str = ""
    """The address that the request came from."""
    query: bytes = b""
    which: tuple[str, str] = ("", "")
    id: str | None = None
    """What the client calls its request."""
    over_quota: bool = False
    """Whether it was refused since whoever asks had more than was agreed."""
    bytes_in: int = 0
    packing: str = ""
    """How the body came packed; empty where it came as it is."""
    held_bytes: int = 0
    """The bytes of a long body that came packed, which count until the answer."""
    is_cut_short: bool = False
    """Whether the body was refused before all of it had come."""

    def values(self, name: str) -> list[str]:
        """The values of a header, as often as it comes."""
        return values(self.headers, name)

    def header(self, name: str) -> str | None:
        """The value of a header; None without it. Raises RequestError if it comes twice."""
        return header(self.headers, name)

    @property
    def infers(self) -> bool:
        """Whether predictions are asked for."""
        return self.path.startswith("predict/") or self.path.endswith("/infer")

    async def body(self) -> bytes:
        """The whole body, as it came. Raises TooLarge, SlowBody, PackedBody, or ClientLeft when the client leaves."""
        self.packing = self._packing()
        declared = whole(self.header("content-length"))
        if declared is not None and declared > self.body_limit:
            raise self._too_large(declared, more=True)
        parts: list[bytes] = []
        size = 0
        more = True
        began = asyncio.get_running_loop().time()
        while more:
            message = await self._next(began + BODY_SECONDS + size / BODY_BYTES_S)
            part = message.get("body", b"")
            more = message.get("more_body", False)
            size += len(part)
            if size > self.body_limit:
                raise self._too_large(size, more)
            parts.append(part)
        self.bytes_in = size
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _packing(self) -> str:
        """How the body is packed, which that of no other request than one for predictions may be. Raises PackedBody."""
        self._one_of("Transfer-Encoding", ("chunked",))
        came = self._one_of("Content-Encoding", ("identity", *ENCODINGS) if self.infers else ("identity",))
        return came if came in ENCODINGS else ""

    def _one_of(self, name: str, taken: Sequence[str]) -> str:
        """The value of a header that says how the body is sent; '' without it. Raises PackedBody."""
        value = self.header(name) or ""
        plain = ALIASES.get(value.lower(), value.lower())
        if value and plain not in taken:
            raise PackedBody(name, f"{value[:40]!r} is not taken, only {', '.join(taken)}", "Send the body as it is.")
        return plain

    async def _next(self, deadline: float) -> Message:
        try:
            async with asyncio.timeout_at(deadline):
                message = await self.receive()
        except TimeoutError:
            self.is_cut_short = True
            slowest = f"{BODY_SECONDS:g} seconds, and {BODY_BYTES_S / 1000:g} kB a second after that"
            raise SlowBody("body", f"does not come in time, which is {slowest}", "Send less at a time.") from None
        if message["type"] == "http.disconnect":
            raise ClientLeft
        return message

    def _too_large(self, size: int, more: bool) -> TooLarge:
        self.is_cut_short = more
        return TooLarge("body", f"has {size} bytes or more, the limit is {self.body_limit}", "Send less at a time.")

    async def unless_gone(self, work: asyncio.Future[Any]) -> Any:
        """What `work` gives; if the client leaves before, the work is cancelled and ClientLeft is raised."""
        if work.done():
            return work.result()
        watch = asyncio.ensure_future(self._left())
        try:
            await asyncio.wait((work, watch), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientLeft
            return work.result()
        finally:
            watch.cancel()
            work.cancel()

    async def _left(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass


Handler = Callable[[Call], Awaitable[Reply]]
Guarded = Mapping[str, tuple[Handler, Need]]
"""Method: what answers it, and which roles that needs."""


class Routes:
    """Handlers by method and path pattern: `v2/models/{name}/infer`."""

    def __init__(self, table: Mapping[str, Mapping[str, Handler]]) -> None:
        self.table = table
        self.by_length: dict[int, list[tuple[tuple[str, ...], Guarded]]] = {}
        for pattern, handlers in table.items():
            parts = tuple(pattern.split("/"))
            guarded = {method: (handler, need(method, pattern)) for method, handler in handlers.items()}
            self.by_length.setdefault(len(parts), []).append((parts, guarded))

    def match(self, parts: list[str]) -> tuple[Guarded, dict[str, str]] | None:
        """The handlers of a path with what they need, and the parts that its pattern names; None for no such path."""
        for pattern, handlers in self.by_length.get(len(parts), ()):
            names: dict[str, str] = {}
            for wanted, came in zip(pattern, parts, strict=True):
                if wanted[:1] == "{" and came:
                    names[wanted[1:-1]] = came
                elif wanted != came:
                    break
            else:
                return handlers, names
        return None


def path_parts(raw: bytes) -> list[str]:
    """The parts of a path, each decoded by itself, so that %2F is no separator.

    >>> path_parts(b"/v2/models/digits%403/")
    ['v2', 'models', 'digits@3']
    """
    text = raw.partition(b"?")[0].strip(b"/")
    return [unquote_to_bytes(part).decode("utf-8", "replace") for part in text.split(b"/")]


def as_json(value: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """A value as a JSON answer."""
    return Reply(status, orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), JSON, headers)


STATUS: tuple[tuple[type[MillError], int], ...] = (
    (Unidentified, 401),
    (Forbidden, 403),
    (NotServed, 404),
    (Conflict, 409),
    (SlowBody, 408),
    (TooLarge, 413),
    (PackedBody, 415),
    (Unavailable, 503),
    (Draining, 503),
    (Overloaded, 429),
    (DeadlineExceeded, 504),
    (RequestError, 400),
)
"""Errors that are the client's, or the hour's; any other is ours."""


_statuses: dict[type[MillError], int] = {}


def status_of(kind: type[MillError]) -> int:
    """The status of an answer that is an error of a kind.

    >>> status_of(Draining), status_of(ModelError)
    (503, 500)
    """
    found = _statuses.get(kind)
    if found is None:
        found = _statuses[kind] = next((code for known, code in STATUS if issubclass(kind, known)), 500)
    return found


def refusal(error: MillError) -> Reply:
    """The answer to a request that went wrong."""
    status = status_of(type(error))
    headers: tuple[tuple[str, str], ...] = ()
    if isinstance(error, Overloaded):
        headers = (("retry-after", str(max(1, math.ceil(error.seconds)))),)
    elif isinstance(error, Unidentified):
        headers = (("www-authenticate", 'Bearer realm="modelmill"'),)
    return as_json({"error": str(outward(error))}, status, headers)


def worded(error: MillError, caller: Caller) -> Reply:
    """The answer to what went wrong, as the caller may hear it."""
    reply = refusal(discreet(error, caller))
    if reply.status == 500 and isinstance(error, ModelError):
        return as_json({"error": f"the model failed: {error.message}"}, 500)
    return reply


FAILED = as_json({"error": "the service failed; its log says why"}, 500)
LAST = ("connection", "close")
"""The header of the last answer on a connection."""


def told(reply: Reply, caller: Caller) -> Reply:
    """An answer with what is left of the caller's quota."""
    return reply if caller.gate is None else reply.plus(*standing.headers(caller))


def telling(send: Send, caller: Caller) -> Send:
    """A `send` for answers that others write, which adds what is left of the caller's quota."""
    if caller.gate is None:
        return send

    async def send_told(message: Message) -> None:
        if message["type"] == "http.response.start":
            told = [(name.encode(), value.encode()) for name, value in standing.headers(caller)]
            message = {**message, "headers": [*message["headers"], *told]}
        await send(message)

    return send_told


def stamped(reply: Reply, name: str, number: str) -> Reply:
    """An answer, or a failure, with the version that it is of, where one was picked."""
    return reply.plus(*standing.version(name, number))


def no_such_path(path: str) -> Reply:
    """The answer where nothing is. path: without its first slash."""
    return as_json({"error": f"no such path: /{path[:200]}. See /docs."}, 404)


def wrong_method(allowed: Iterable[str], method: str) -> Reply:
    """The answer to a GET where a POST belongs."""
    allow = ", ".join(sorted(allowed))
    return as_json({"error": f"{method[:20]} is not for this path, which takes {allow}"}, 405, (("allow", allow),))


def as_last(reply: Reply) -> Reply:
    """The answer as the last one on its connection: the client opens another, to a process that goes on."""
    return reply.plus(LAST)


async def send_reply(reply: Reply, send: Send, more: bool = False) -> None:
    """Put an answer on the wire; with `more` its connection is told later that it was the whole one."""
    headers = [
        (b"content-type", reply.content_type.encode()),
        (b"content-length", str(len(reply.body)).encode()),
        *((name.encode(), value.encode("latin-1", "replace")) for name, value in reply.headers),
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body, "more_body": more})


async def send_last(reply: Reply, send: Send, receive: Receive) -> None:
    """Put an answer on the wire while the body still comes, and end the connection a moment later."""
    await send_reply(as_last(reply), send, more=True)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (await receive()).get("more_body"):
                pass
    await send({"type": "http.response.body", "body": b""})
