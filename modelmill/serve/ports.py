"""Ports: listening on one, sharing it with other processes, and what to say where it cannot be had."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Any

from modelmill.errors import OutOfBounds, WorkError
from modelmill.serve.handover import can_share, share

BACKLOG = 1024
NEAR = 100
"""So many ports above one that is taken are tried for one that is free."""


def check_apart(host: str, port: int, grpc_port: int) -> None:
    """Raise OutOfBounds where HTTP and gRPC are to have one port; any two free ones are apart."""
    if port == grpc_port != 0:
        hint = f"Try --grpc-port {_free(host, port)}, or --no-grpc."
        raise OutOfBounds(f"--grpc-port {grpc_port}", "is the port of HTTP, too", hint)


@contextlib.contextmanager
def listening(
    host: str, port: int, shared: bool = False, flag: str = "--port", other: int | None = None
) -> Iterator[socket.socket]:
    """A listening socket; raises WorkError, with a way out, if the port cannot be had.

    A shared one listens only once the service is ready: until then new connections are the other process's.
    other: the service's other port, which is no way out.
    """
    where = f"{host}:{port}"
    if shared and not can_share():
        raise WorkError(where, "this system lets one process listen on a port", "Leave --reuse-port out.")
    try:
        listener, address = _made(host, port)
    except (OSError, OverflowError) as error:
        raise WorkError(where, f"cannot be listened on: {error}", f"Try --host 127.0.0.1 {flag} 8080.") from None
    with listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                share(listener)
            listener.bind(address)
            if not shared:
                listener.listen(BACKLOG)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                hint = f"Another service may run; stop it, or try {flag} {_free(host, port, other)}."
                raise WorkError(where, "the port is taken", hint) from None
            raise WorkError(
                where, f"cannot be listened on: {error.strerror}", f"Try another --host or {flag}."
            ) from None
        yield listener


def _free(host: str, port: int, other: int | None = None) -> int:
    """A free port above one that is taken, and not the service's other one; 0, which takes any, where none is near."""
    above = range(port + 1, min(port + NEAR, 65_536))
    return next((found for found in above if found != other and _is_free(host, found)), 0)


def _is_free(host: str, port: int) -> bool:
    try:
        listener, address = _made(host, port)
        with listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError:
        return False
    return True


def _made(host: str, port: int) -> tuple[socket.socket, Any]:
    """A socket for an address, and that address."""
    listed = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = listed[0]
    return socket.socket(family, kind, protocol), address


def url_of(listener: socket.socket, host: str, encrypted: bool = False) -> str:
    """Where people and clients find the service.

    A service on all addresses is named by this machine's own.
    """
    return f"{'https' if encrypted else 'http'}://{address_of(host, listener.getsockname()[1])}"


def address_of(host: str, port: int) -> str:
    """HOST:PORT as clients reach it from this machine."""
    if host in ("", "0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextlib.contextmanager
def reserved(host: str, port: int, flag: str, shared: bool = False, other: int | None = None) -> Iterator[int]:
    """The number of a port that other processes of ours will listen on, kept for them; 0 is a free one.

    Raises WorkError where somebody else has it, unless it is to be `shared` with that one.
    """
    if port and not shared:
        with listening(host, port, flag=flag, other=other):
            pass
    with listening(host, port, shared=True, flag=flag, other=other) as held:
        yield held.getsockname()[1]
