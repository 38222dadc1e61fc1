"""Requests as bytes, and connections that are kept between them, for loads that send whether or not answers come."""

from __future__ import annotations

import asyncio
import time
from collections import deque

IDLE_SECONDS = 5.0
"""A connection that was not used for so long is not used again."""

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers in small letters, body."""


def post(path: str, body: bytes, *headers: str, method: str = "POST") -> bytes:
    """A whole request.

    >>> post("/predict/flowers", b"[[3, 1]]", "X-Request-Id: 7").splitlines()[3]
    b'X-Request-Id: 7'
    """
    lines = (f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers)
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


class Kept:
    """Connections to a port of this machine; of those that are idle, the one that was used last is used first."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.opened = 0
        self.idle: deque[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = deque()
        """When it was used last, and the connection."""

    async def ask(self, request: bytes, keep: bool = True) -> Answer:
        """The answer on a kept connection, or on one of its own. Raises OSError, IncompleteReadError, ValueError."""
        reader, writer = await self._connection() if keep else await self._fresh()
        good = False
        try:
            writer.write(request)
            status = int((await reader.readuntil(b"\r\n")).split()[1])
            headers: dict[str, str] = {}
            while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            body = await reader.readexactly(int(headers["content-length"]))
            good = keep and headers.get("connection") != "close"
        finally:
            if not good:
                writer.close()
        if good:
            self.idle.append((time.monotonic(), reader, writer))
        return status, headers, body

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A kept connection that is still open, else a new one; what was not used for some seconds is closed."""
        while self.idle and time.monotonic() - self.idle[0][0] > IDLE_SECONDS:
            self.idle.popleft()[2].close()
        while self.idle:
            _, reader, writer = self.idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return await self._fresh()

    async def _fresh(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self.opened += 1
        return await asyncio.open_connection("127.0.0.1", self.port)
