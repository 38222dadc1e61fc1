"""The bytes of a connection: uvicorn's fast HTTP parser, with our refusals, and a short way for small requests.

The short way: a request that `Express` can answer is answered where it was parsed, or when its run is done, with no
task, scope or event. Clients say the same head over and over: one whose bytes were parsed before, for a request that
was answered so, is not parsed again. Anything else goes uvicorn's ordinary way, so that there is one place for what is
unusual.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

import orjson

from modelmill.serve.web.heads import Known, head

HEADERS_MOST = 65_536
"""Bytes of a request's line and headers."""

CHUNKS_MOST = 65_536
"""Chunks of one body: each costs the loop some time, however small it is."""

NEXT_MOST = 65_536
"""Bytes that are taken while an answer is waited for: what follows is left in the socket."""

Headers = Sequence[tuple[bytes, bytes]]


class Later(Protocol):
    """An answer that comes later; to cancel its future is to give it up."""

    @property
    def future(self) -> asyncio.Future[Any]:
        """Done when the answer can be written."""


class Express(Protocol):
    """What can answer some requests at once."""

    @property
    def is_mixed(self) -> bool:
        """Whether several payers ask at the same time."""

    def opened(self, url: bytes, headers: Headers) -> Any:
        """What the URL and headers of a POST ask for, to be handed to `answer`; None where it goes the ordinary way."""

    def must_wait(self, opening: Any) -> bool:
        """Whether others have had less of the loop than whoever asks."""

    def later(self, opening: Any, work: Callable[[], None]) -> None:
        """Have `work` done when it is the turn of whoever asks."""

    def answer(self, opening: Any, body: bytes, patient: bool) -> bytes | Later | None:
        """The whole answer with its head; None, and nothing done, where the request goes the ordinary way.

        patient: whether it may come later.
        """

    def finish(self, later: Any, last: bool) -> tuple[bytes, bool] | None:
        """The answer whose future is done, and whether its connection ends with it, which is so if it is the last.

        None where it has another future now.
        """


HOST = b"host"

REFUSED = (
    "request: is not HTTP that can be read, expected a line, headers, and a body of the length that they say. "
    "Use https:// only where the service has a certificate."
)
TOO_LONG = f"request: has more than {HEADERS_MOST:,} bytes of line and headers, which is the limit. Send less in them."
TOO_MANY = f"body: has more than {CHUNKS_MOST:,} chunks, which is the limit. Send larger ones, or a Content-Length."
NO_HOST = "Host: does not come, expected once. Send: Host: NAME."
HOSTS = "Host: comes twice, expected once. Send: Host: NAME."

HEAD_SECONDS = 15.0
"""How often it is looked whether the headers of a request are still on their way; the second time is too late."""

SLOW = b'{"error":"headers: do not come in time, which is some 15 seconds. Send them in one piece."}'

IDLE_LOOKS = 4
"""After so many looks at which nothing had come a connection is closed."""


def protocol(express: Express | None) -> Any:
    """The class of connections, for uvicorn; its own slower one where the fast parser is not installed."""
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        return "h11"
    known = Known()

    class Connection(HttpToolsProtocol):  # type: ignore[misc]
        """One connection: what came of the request that is being read."""

        header_bytes = 0
        chunks = 0
        unseen = 0
        """Bytes that came since the parser last made anything of them: it keeps them until it does."""
        problem = REFUSED
        """What is said where the parser stops."""
        in_head = False
        """Whether a request has begun whose headers have not all come."""
        looked_at: Any = None
        """The headers of the request whose rest, and nothing else, was waited for when `_look` last looked."""
        looks = 0
        """How often `_look` has looked since anything came or was answered."""
        unread = 0
        """Bytes of answers that the client had not taken when `_look` last looked."""
        look: Any = None
        opening: Any = None
        """What the present request asks of the short way; None on the ordinary one."""
        size = 0
        """The bytes of what just came."""
        own = 0
        """How many of them are of the present request's body."""
        later: Any = None
        """What is waited for on the short way."""
        next = b""
        """What came meanwhile."""
        last = False
        """Whether the connection ends with the answer that is waited for."""
        at_rest = True
        """Whether the next byte begins a request."""
        data = b""
        """What just came, while it is parsed, if a request began with it."""
        held = b""
        """A whole request that waits for its turn; nothing is read meanwhile."""
        refused = False
        """Whether the short way did not have what just came, which it knows by the head."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.headers: list[tuple[bytes, bytes]] = []
            self.parts: list[bytes] = []
            self.in_head = True
            self._look()

        def _look(self) -> None:
            """End a connection whose headers have not come for two looks, or that has been idle for some more.

            Nor is the rest of a body waited for longer than that, once its request is answered.

            What that costs, it costs idle connections: the short way sets no timer.
            """
            unread, before = self.transport.get_write_buffer_size(), self.unread
            self.unread = unread
            if unread and before and unread >= before:
                self.transport.abort()  # nobody reads: what waits for them is let go of
                return
            if not self.transport.is_closing():
                if self.opening is not None:
                    self._ordinary()  # there whoever waits for the rest has a time limit
                self._end_if_late()
            elif not unread:
                return
            self.look = self.loop.call_later(HEAD_SECONDS, self._look)

        def _end_if_late(self) -> None:
            waits = self.in_head or (not self.at_rest and self._is_answered())
            late = waits and self.headers is self.looked_at
            if late and self.in_head and self.header_bytes:
                self.transport.write(head(408, "application/json", len(SLOW), (("connection", "close"),)) + SLOW)
            if late or (self.looks >= IDLE_LOOKS and not self.unread):
                self.transport.close()
            self.looks = self.looks + 1 if self.at_rest and self._is_answered() else 0
            self.looked_at = self.headers if waits else None

        def begin(self) -> None:
            """Count a request whose body is on its way among those in flight, which are answered at the end."""
            if self.opening is not None:
                self._ordinary()

        def shutdown(self) -> None:
            self._go_on()
            self.begin()
            if self.later is not None:
                self.last = True
            else:
                super().shutdown()

        def connection_lost(self, error: Exception | None) -> None:
            if self.look is not None:
                self.look.cancel()
            if self.later is not None:
                self.later.future.cancel()
            super().connection_lost(error)

        def data_received(self, data: bytes) -> None:
            self.looks = 0
            if self.later is not None:
                self.next += data
                if len(self.next) > NEXT_MOST:
                    self.flow.pause_reading()
                return
            if self.at_rest:
                if self._is_put_off(data) or self._answered_at_once(data):
                    return
                self.data = data
            self._read(data)

        def _is_put_off(self, data: bytes) -> bool:
            """Whether what came was one whole request with a head that is known, and others are first."""
            if express is None or not express.is_mixed:
                return False
            found = known.of(data)
            if found is None or not self._can_write() or not express.must_wait(found[0]):
                return False
            self.held = data
            self.transport.pause_reading()
            express.later(found[0], self._go_on)
            return True

        def _go_on(self) -> None:
            """Answer the request that waited."""
            data, self.held = self.held, b""
            if not data or self.transport.is_closing():
                return
            self.transport.resume_reading()
            if not self._answered_at_once(data):
                self.data = data
                self._read(data)

        def _read(self, data: bytes) -> None:
            """Parse what came."""
            self.size, self.own = len(data), 0
            self.unseen += self.size
            super().data_received(data)
            self.data, self.refused = b"", False
            if self.unseen > HEADERS_MOST and not self.at_rest and not self.transport.is_closing():
                self.problem = TOO_LONG
                self.send_400_response("")

        def _answered_at_once(self, data: bytes) -> bool:
            """Whether what came was one whole request with a head that is known, and is answered."""
            found = known.of(data)
            if found is None or express is None or not self._can_write():
                return False
            answer = express.answer(*found, True)
            if answer is None:
                self.refused = True
                return False
            self.in_head = False
            self._unset_keepalive_if_required()
            if type(answer) is bytes:
                self.transport.write(answer)
                self.server_state.total_requests += 1
            else:
                self._wait(answer)
            return True

        def _wait(self, later: Any) -> None:
            """Let an answer come when it is there."""
            self.later = later
            later.future.add_done_callback(self._finish)

        def _finish(self, future: asyncio.Future[Any]) -> None:
            """Write the answer that was waited for, and turn to what came meanwhile."""
            later, self.later = self.later, None
            try:
                found = express.finish(later, self.last) if express is not None else (b"", True)
            except BaseException:
                self.transport.abort()  # or the client would wait for ever
                raise
            if found is None:
                self._wait(later)
                return
            answer, ends = found
            if self.transport.is_closing():
                return
            self.transport.write(answer)
            self.server_state.total_requests += 1
            if ends:
                self.transport.close()
                return
            data, self.next = self.next, b""
            if data:
                self.flow.resume_reading()
                try:
                    self.data_received(data)
                except BaseException:
                    self.transport.abort()
                    raise

        def on_message_begin(self) -> None:
            self.in_head = True
            self.at_rest = False
            self.url = b""
            self.headers = []
            self.expect_100_continue = False
            self.header_bytes = self.chunks = self.unseen = 0

        def on_url(self, url: bytes) -> None:
            self._bound(len(url))
            self.url += url

        def on_header(self, name: bytes, value: bytes) -> None:
            self._bound(len(name) + len(value))
            if self.in_head:  # what is said after a body is not heard: by then all is decided
                super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self.in_head = False
            hosts = [name for name, _ in self.headers].count(HOST)
            if hosts != 1 and (hosts or self.parser.get_http_version() == "1.1"):
                self._stop(HOSTS if hosts else NO_HOST)
            if express is not None and self.parser.get_method() == b"POST" and self._is_alone():
                self.opening = express.opened(self.url, self.headers)
            if self.opening is None:
                self._begin()
            else:
                self.parts = []

        def on_chunk_header(self) -> None:
            self.unseen = 0
            self.chunks += 1
            if self.chunks > CHUNKS_MOST:
                self._stop(TOO_MANY)

        def on_body(self, body: bytes) -> None:
            self.unseen = 0
            if self.opening is None:
                super().on_body(body)
                return
            self.parts.append(body)
            self.own += len(body)

        def on_message_complete(self) -> None:
            self.at_rest = True
            data, self.data = self.data, b""
            if self.opening is not None:
                if self._is_answered_shortly(data):
                    self.opening, self.parts = None, []
                    return
                self._ordinary()
            super().on_message_complete()

        def _is_answered_shortly(self, data: bytes) -> bool:
            """Whether the present request, which is here, is answered on the short way, or will be; it began `data`."""
            body = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
            begins = data.find(b"\r\n\r\n") + 4 if data else 0
            answer = express.answer(self.opening, body, begins + self.own == self.size) if express else None
            if answer is None:
                return False
            known.add(data, self.opening, len(body))
            if type(answer) is bytes:
                self.transport.write(answer)
                self.on_response_complete()
            else:
                self._unset_keepalive_if_required()
                self._wait(answer)
            return True

        def _is_alone(self) -> bool:
            """Whether the present request may go the short way: nothing waits before it, and its connection goes on."""
            return (
                not self.refused
                and self._can_write()
                and self.parser.should_keep_alive()
                and self.parser.get_http_version() == "1.1"
                and not self.parser.should_upgrade()
                and not self.expect_100_continue
            )

        def _is_answered(self) -> bool:
            """Whether no request waits for its answer."""
            return self.later is None and (self.cycle is None or self.cycle.response_complete)

        def _can_write(self) -> bool:
            """Whether an answer may be written now."""
            return self._is_answered() and not self.flow.write_paused and not self.transport.is_closing()

        def _begin(self) -> None:
            """Begin the present request on uvicorn's way: with a scope, which the short way does without."""
            url, headers, expect = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()
            self.url, self.expect_100_continue = url, expect
            self.headers += headers
            super().on_headers_complete()

        def _ordinary(self) -> None:
            """Leave the short way, with as much of the present request's body as came."""
            self.opening = None
            parts, self.parts = self.parts, []
            self._begin()
            for part in parts:
                super().on_body(part)

        def _bound(self, size: int) -> None:
            self.unseen = 0
            self.header_bytes += size
            if self.header_bytes > HEADERS_MOST:
                self._stop(TOO_LONG)

        def _stop(self, problem: str) -> NoReturn:
            """Let the parser stop, which has `send_400_response` called."""
            self.problem = problem
            raise ValueError(problem)

        def send_400_response(self, msg: str) -> None:
            """Say what is wrong with a request that is not read to its end; uvicorn's own words do not."""
            self.opening = None
            body = orjson.dumps({"error": self.problem})
            self.transport.write(head(400, "application/json", len(body), (("connection", "close"),)) + body)
            self.transport.close()

    return Connection
