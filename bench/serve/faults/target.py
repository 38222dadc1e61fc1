"""What faults are done to, and what is heard of it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from kept import post
from servers import At

WAIT_S = 75.0
"""How long an answer is waited for; the service lets nobody be silent for so long."""


@dataclass(frozen=True)
class Target:
    """A running service with the models of soak.py; `keys` by what they are for."""

    at: At
    home: Path
    keys: Mapping[str, str]
    workers: int = 1

    @property
    def port(self) -> int:
        """Of HTTP."""
        return urlsplit(self.at.url).port or 0

    @property
    def grpc_port(self) -> int:
        return int(self.at.grpc.rpartition(":")[2])

    def bearer(self, key: str = "good") -> str:
        return f"Authorization: Bearer {self.keys.get(key, key)}"


Fault = Callable[[Target, int], Iterator[str]]
"""Done to a target for the n-th time, it tells what was said."""


def heard(connection: socket.socket, wait_s: float = WAIT_S) -> str:
    """The status of the next answer."""
    line = bytearray()

    def told(piece: bytes) -> str:
        line.extend(piece)
        return line.split()[1].decode() if b"\r\n" in line else ""

    return until(connection, told, wait_s)


def until(connection: socket.socket, told: Callable[[bytes], str], wait_s: float) -> str:
    """What `told` makes of what comes, as soon as it is something; or how the connection ended before."""
    connection.settimeout(wait_s)
    try:
        while piece := connection.recv(65_536):
            if found := told(piece):
                return found
    except TimeoutError:
        return "silence"
    except OSError:
        return "reset"
    return "closed"


def opened(target: Target) -> socket.socket:
    return socket.create_connection(("127.0.0.1", target.port), timeout=20)


def reset(connection: socket.socket) -> None:
    """Leave without a word."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def said(target: Target, *pieces: bytes) -> str:
    """What comes of the bytes of a request; a service may refuse them, and go, before it has them all."""
    with opened(target) as connection:
        with suppress(OSError):
            for piece in pieces:
                connection.sendall(piece)
        return heard(connection)


def rows(target: Target, body: bytes, *headers: str, path: str = "/predict/flowers", key: str = "good") -> bytes:
    """A request by a key."""
    return post(path, body, target.bearer(key), *headers)
