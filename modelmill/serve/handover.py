"""A port that is handed from one process to the next without losing a connection or a request."""

from __future__ import annotations

import contextlib
import ctypes
import select
import socket
import struct
import sys

ATTACH = 51
"""SO_ATTACH_REUSEPORT_CBPF of Linux: a program that says which of the sockets on one port gets a new connection."""

RETURN = 0x06
"""The one instruction of it: return a constant."""


def can_share() -> bool:
    """Whether two processes may listen on one port here."""
    return hasattr(socket, "SO_REUSEPORT") and sys.platform != "win32"


def share(listener: socket.socket) -> None:
    """Let other processes of the same user listen on the port, too."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def give_way(listener: socket.socket) -> None:
    """Let new connections go to the process that came to the port second.

    When a socket closes, the kernel resets the connections that wait in its queue; so none should. The program names
    the second socket of the port: that of the newcomer, which is the only other one at a restart. Where there is no
    second one, or the system knows no such programs, the kernel goes on as before.
    """
    code = ctypes.create_string_buffer(struct.pack("HBBI", RETURN, 0, 0, 1), 8)
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, ATTACH, struct.pack("HP", 1, ctypes.addressof(code)))


def has_data(at: socket.socket | int) -> bool:
    """Whether a connection waits to be accepted, or bytes to be read; false where the socket is closed."""
    with contextlib.suppress(OSError, ValueError):
        poll = select.poll()
        poll.register(at, select.POLLIN)
        return any(event & select.POLLIN for _, event in poll.poll(0))
    return False
