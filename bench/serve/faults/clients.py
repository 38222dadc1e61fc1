"""Clients that are slow, leave, are many, or want more than they may."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

from kept import post

from faults.requests import images, infer
from faults.target import WAIT_S, Fault, Target, heard, opened, reset, rows, said

FLOOD = 200
"""Connections at a time."""
UNREAD_S = 20.0
"""How long an answer is left where it is."""


def silent(target: Target, n: int) -> Iterator[str]:
    """A part of a request, and nothing more: of its head, or of its body."""
    request = rows(target, b"[[3, 1]]")
    yield said(target, request[:40] if n % 2 else request[:-4])


def slow(target: Target, n: int) -> Iterator[str]:
    """A head or a body that comes byte by byte."""
    request = rows(target, b" " * 100_000)
    head = request.index(b"\r\n\r\n") + 4
    with opened(target) as connection:
        at = head - 40 if n % 2 else head + 1
        connection.sendall(request[:at])
        answer, end = "silence", time.monotonic() + WAIT_S
        while answer == "silence" and time.monotonic() < end:
            with suppress(OSError):
                connection.sendall(request[at : at + 1])
            at += 1
            answer = heard(connection, 0.8)
        yield answer


def leaves(target: Target, n: int) -> Iterator[str]:
    """A client that does not wait for its answer, of many rows; every other one says good-bye."""
    connection = opened(target)
    connection.sendall(infer(target, *images(64), model="small"))
    time.sleep(0.02 * (n % 4))
    (connection.close if n % 2 else lambda: reset(connection))()
    yield "left"


def leaves_in_the_answer(target: Target, _: int) -> Iterator[str]:
    connection = opened(target)
    connection.sendall(post("/openapi.json", b"", target.bearer(), method="GET"))
    yield "left" if connection.recv(1) else "closed"
    reset(connection)


def does_not_read(target: Target, _: int) -> Iterator[str]:
    """A client that asks for megabytes, and takes none of them for a while."""
    tensor = {"shape": [60_000, 4], "parameters": {"binary_data_size": 960_000}}
    with opened(target) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(infer(target, tensor, bytes(960_000)))
        time.sleep(UNREAD_S)
        yield heard(connection)
        reset(connection)


def oversized(target: Target, n: int) -> Iterator[str]:
    """A body of 100 MB, which says so or does not."""
    piece = bytes(1_000_000)
    if n % 2:
        head = rows(target, b"").replace(b"Content-Length: 0", b"Content-Length: 100000000")
        yield said(target, head, piece)
        return
    head = rows(target, b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    yield said(target, head, *[b"f4240\r\n" + piece + b"\r\n"] * 100)


def longer_than_it_says(target: Target, _: int) -> Iterator[str]:
    with opened(target) as connection:
        connection.sendall(rows(target, b"[[3, 1]]") + b"}" * 100)
        yield heard(connection)


def flood(target: Target, n: int) -> Iterator[str]:
    """Many connections at a time that ask for nothing, or all at once, and leave."""
    with ExitStack() as stack:
        connections = [stack.enter_context(opened(target)) for _ in range(FLOOD)]
        if n % 2:
            for connection in connections:
                connection.sendall(rows(target, b"[[3, 1]]"))
            yield from {heard(connection) for connection in connections}
        for connection in connections[::2]:
            reset(connection)
    yield "left"


def half_open(target: Target, _: int) -> Iterator[str]:
    """Connections on both ports that never say anything."""
    with opened(target) as connection, socket.create_connection(("127.0.0.1", target.grpc_port)) as other:
        other.recv(1000)
        yield f"{heard(connection)}, {heard(other)}"


def over_quota(target: Target, _: int) -> Iterator[str]:
    """Twenty requests by a key that may make two a second."""
    for _ in range(20):
        yield said(target, rows(target, b"[[3, 1]]", key="meagre"))


FAULTS: dict[str, Fault] = {
    "half a request, and silence": silent,
    "a slow head or body": slow,
    "a client that leaves": leaves,
    "a client that leaves in the answer": leaves_in_the_answer,
    "a client that does not read": does_not_read,
    "a body of 100 MB": oversized,
    "a body longer than it says": longer_than_it_says,
    "a flood of connections": flood,
    "connections that are silent": half_open,
    "more than the quota": over_quota,
}
