"""Ports: listening on one, sharing it with other processes, and what to say where it cannot be had."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

from modelmill.errors import WorkError
from modelmill.serve.handover import can_share, share

BACKLOG = 1024


@contextlib.contextmanager
def listening(host: str, port: int, shared: bool = False, flag: str = "--port") -> Iterator[socket.socket]:
    """A listening socket; raises WorkError, with a way out, if the port cannot be had.

    A shared one listens only once the service is ready: until then new connections are the other process's.
    """
    where = f"{host}:{port}"
    if shared and not can_share():
        raise WorkError(where, "this system lets one process listen on a port", "Leave --reuse-port out.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
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
                hint = f"Another service may run; stop it, or try {flag} {port + 1 if port < 65535 else 8080}."
                raise WorkError(where, "the port is taken", hint) from None
            raise WorkError(
                where, f"cannot be listened on: {error.strerror}", f"Try another --host or {flag}."
            ) from None
        yield listener


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
def reserved(host: str, port: int, flag: str, shared: bool = False) -> Iterator[int]:
    """The number of a port that other processes of ours will listen on, kept for them; 0 is a free one.

    Raises WorkError where somebody else has it, unless it is to be `shared` with that one.
    """
    if port and not shared:
        with listening(host, port, flag=flag):
            pass
    with listening(host, port, shared=True, flag=flag) as held:
        yield held.getsockname()[1]
