"""The bytes of a connection: uvicorn's fast HTTP parser, with our refusals, and a short way for small requests.

The short way: a request that came whole, and that `Express` can answer at once, is answered where it was parsed, with
no task, scope or event. Anything else goes uvicorn's ordinary way, so that there is one place for what is unusual.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Protocol

HEADERS_MOST = 65_536
"""Bytes of a request's line and headers."""

BODY_MOST = 262_144
"""Bytes of a body that may go the short way: so much comes in one piece."""

Headers = Sequence[tuple[bytes, bytes]]


class Express(Protocol):
    """What can answer some requests at once."""

    def knows(self, url: bytes) -> Any:
        """What answers the POST of a URL, to be handed to `answer`; None where it goes the ordinary way."""

    def answer(self, found: Any, headers: Headers, body: bytes) -> bytes | None:
        """The whole answer with its head; None, and nothing done, where the request goes the ordinary way."""


def head(status: int, content_type: str, length: int, headers: tuple[tuple[str, str], ...] = ()) -> bytes:
    """The line and the headers of an answer that keeps its connection.

    >>> head(200, "text/plain", 2)
    b'HTTP/1.1 200 OK\\r\\ncontent-type: text/plain\\r\\ncontent-length: 2\\r\\n\\r\\n'
    """
    return b"%s%d\r\n\r\n" % (_opening(status, content_type, headers), length)


@lru_cache(maxsize=4096)
def _opening(status: int, content_type: str, headers: tuple[tuple[str, str], ...]) -> bytes:
    """All of a head but the length."""
    told = "".join(f"{name}: {value}\r\n" for name, value in (("content-type", content_type), *headers))
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{told}content-length: ".encode("latin-1")


REFUSED = b'{"error":"the request is not HTTP that can be read"}'

HEAD_SECONDS = 15.0
"""How often it is looked whether the headers of a request are still on their way; the second time is too late."""

SLOW = b'{"error":"the headers did not come in time"}'


def protocol(express: Express | None) -> Any:
    """The class of connections, for uvicorn; its own slower one where the fast parser is not installed."""
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        return "h11"

    class Connection(HttpToolsProtocol):  # type: ignore[misc]
        """One connection: what came of the request that is being read."""

        header_bytes = 0
        in_head = False
        """Whether a request has begun whose headers have not all come."""
        looked_at: Any = None
        """The headers that were being read when `_look` last looked."""
        look: Any = None
        found: Any = None
        """What answers the present request on the short way; None on the ordinary one."""
        body = b""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.headers: list[tuple[bytes, bytes]] = []
            self.in_head = True
            self._look()

        def _look(self) -> None:
            """End a connection whose headers have not come for two looks; what it costs, it costs idle connections."""
            if self.transport.is_closing():
                return
            if self.in_head and self.headers is self.looked_at:
                if self.header_bytes:
                    self.transport.write(head(408, "application/json", len(SLOW), (("connection", "close"),)) + SLOW)
                self.transport.close()
                return
            self.looked_at = self.headers
            self.look = self.loop.call_later(HEAD_SECONDS, self._look)

        def connection_lost(self, error: Exception | None) -> None:
            if self.look is not None:
                self.look.cancel()
            super().connection_lost(error)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.found is not None:  # only a part came: whoever waits for the rest has a time limit
                self._ordinary()

        def on_message_begin(self) -> None:
            self.in_head = True
            self.url = b""
            self.headers = []
            self.expect_100_continue = False
            self.header_bytes = 0

        def on_url(self, url: bytes) -> None:
            self._bound(len(url))
            self.url += url

        def on_header(self, name: bytes, value: bytes) -> None:
            self._bound(len(name) + len(value))
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self.in_head = False
            if express is not None and self.parser.get_method() == b"POST" and self._is_alone():
                self.found = express.knows(self.url)
            if self.found is None:
                self._begin()
            else:
                self.body = b""

        def on_body(self, body: bytes) -> None:
            if self.found is None:
                super().on_body(body)
                return
            self.body = self.body + body if self.body else body
            if len(self.body) > BODY_MOST:
                self._ordinary()

        def on_message_complete(self) -> None:
            if self.found is not None:
                answer = express.answer(self.found, self.headers, self.body) if express else None
                if answer is not None:
                    self.found = None
                    self.body = b""
                    self.transport.write(answer)
                    self.on_response_complete()
                    return
                self._ordinary()
            super().on_message_complete()

        def _is_alone(self) -> bool:
            """Whether nothing waits before the present request, and its connection goes on after it."""
            return (
                (self.cycle is None or self.cycle.response_complete)
                and self.parser.should_keep_alive()
                and self.parser.get_http_version() == "1.1"
                and not self.parser.should_upgrade()
                and not self.expect_100_continue
                and not self.flow.write_paused
                and not self.transport.is_closing()
            )

        def _begin(self) -> None:
            """Begin the present request on uvicorn's way: with a scope, which the short way does without."""
            url, headers, expect = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()
            self.url, self.expect_100_continue = url, expect
            self.headers += headers
            super().on_headers_complete()

        def _ordinary(self) -> None:
            """Leave the short way, with as much of the present request's body as came."""
            self.found = None
            body, self.body = self.body, b""
            self._begin()
            if body:
                super().on_body(body)

        def _bound(self, size: int) -> None:
            self.header_bytes += size
            if self.header_bytes > HEADERS_MOST:
                raise ValueError("the headers are larger than 64 KiB")

        def send_400_response(self, msg: str) -> None:
            self.found = None
            self.transport.write(head(400, "application/json", len(REFUSED), (("connection", "close"),)) + REFUSED)
            self.transport.close()

    return Connection
