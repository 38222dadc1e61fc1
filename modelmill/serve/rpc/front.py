"""gRPC on our own HTTP/2, RFC 9113: only what a server needs, which is no push and no priorities."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from modelmill.serve.rpc.connection import Connection
from modelmill.serve.rpc.methods import Methods
from modelmill.serve.rpc.runner import Counter, Offer

BACKLOG = 1024

READING_SECONDS = 1.0
"""How long clients have at the end to read that they should go, in which calls are still taken that cross that."""

LAST_SECONDS = 0.1
"""How long what was said last has to get out."""


class Front:
    """Serves the methods on a port of its own; it lives as long as the service."""

    def __init__(self, methods: Methods, state: Counter, body_bytes: int) -> None:
        self.offer = Offer(methods, state, body_bytes)
        self.connections: set[Connection] = set()
        self.server: asyncio.Server | None = None

    async def start(self, listener: Any, tls: Any = None) -> None:
        """Answer on a listening socket; `tls` is an SSL context that offers h2."""
        loop = asyncio.get_running_loop()

        def connect() -> Connection:
            return Connection(self.offer, self.connections, loop)

        self.server = await loop.create_server(connect, sock=listener, ssl=tls, backlog=BACKLOG)

    def warn(self) -> None:
        """Tell all clients to make their next calls elsewhere; those that cross the warning are still answered."""
        for connection in tuple(self.connections):
            connection.warn()

    def part(self) -> None:
        """Warn, and let no stream go on: each ends with a status when the messages that have come are answered."""
        self.offer.state.parting = True
        for connection in tuple(self.connections):
            connection.part()

    @property
    def is_streaming(self) -> bool:
        """Whether a call of many messages has not ended: those that have come are owed an answer."""
        return any(connection.is_streaming for connection in self.connections)

    async def stop(self, seconds: float, in_haste: Callable[[], bool]) -> None:
        """Take no further calls, and end those that run for longer than so many seconds, or as there is haste."""
        if self.server is not None:
            self.server.close()
        self.part()
        await self._gone(min(READING_SECONDS, seconds), in_haste)
        for connection in tuple(self.connections):
            connection.leave()
        await self._gone(seconds - READING_SECONDS, in_haste)
        for connection in tuple(self.connections):
            connection.cut()
        await self._gone(LAST_SECONDS, lambda: False)
        for connection in tuple(self.connections):
            connection.abort()
        await asyncio.sleep(0)

    async def _gone(self, seconds: float, in_haste: Callable[[], bool]) -> None:
        """Wait until all clients are gone, so long at most."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self.connections and loop.time() < end and not in_haste():
            await asyncio.sleep(0.01)
