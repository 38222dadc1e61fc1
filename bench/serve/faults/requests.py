"""Requests that come whole, and are wrong: bodies, tensors, names, heads, keys."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from kept import post
from models import sample

from faults.target import Fault, Target, rows, said

Row = dict[str, Any]


def infer(
    target: Target, tensor: Row, raw: bytes = b"", model: str = "m", key: str = "good", timeout_us: int = 60_000_000
) -> bytes:
    """A request over the Open Inference Protocol; what `tensor` says goes before what is right."""
    document = {"inputs": [{"name": "x", "datatype": "FP32", **tensor}], "parameters": {"timeout": timeout_us}}
    head = json.dumps(document).encode()
    length = (f"Inference-Header-Content-Length: {len(head)}",) if raw else ()
    return rows(target, head + raw, *length, path=f"/v2/models/{model}/infer", key=key)


def images(count: int) -> tuple[Row, bytes]:
    """So many rows for the small model, as bytes."""
    raw = sample("small").tobytes() * count
    return {"shape": [count, 3, 32, 32], "parameters": {"binary_data_size": len(raw)}}, raw


BODIES: dict[str, tuple[bytes, ...]] = {
    "truncated JSON": (b"[[3, 1", b'[{"length": 3', b""),
    "numbers that are none": (b"[[NaN, 1]]", b"[[1e400, 1]]", b"[[Infinity, -0]]"),
    "nested without end": (b"[" * 10_000 + b"]" * 10_000, b'[{"a": ' * 5_000),
    "keys that come twice": (b'[{"length": 3, "length": 4, "width": 1}]',),
    "no UTF-8": (b"\xff\xfe[[3, 1]]", b'[["\xed\xa0\x80", 1]]', b"[[3, 1]]\0"),
    "columns that are not there": (b'[{"length": 3, "width": 1, "tier": "advanced"}]', b"[[3, 1, 2]]"),
}
TENSORS: dict[str, tuple[tuple[Row, bytes], ...]] = {
    "wrong type or shape": (
        ({"datatype": "INT64", "shape": [1, 4], "data": [1, 2, 3, 4]}, b""),
        ({"shape": [4], "data": [1, 2, 3, 4]}, b""),
        ({"shape": [0, 4], "data": []}, b""),
        ({"shape": [1, 4], "data": ["a", None, True, {}]}, b""),
    ),
    "a shape that overflows": (
        ({"shape": [2**31, 2**31], "data": [1]}, b""),
        ({"shape": [2**63, 4], "data": [1]}, b""),
        ({"shape": [-1, 4], "data": [1]}, b""),
    ),
    "lengths that lie": (
        ({"shape": [1, 4], "parameters": {"binary_data_size": 10**9}}, bytes(16)),
        ({"shape": [1, 4], "parameters": {"binary_data_size": -16}}, bytes(16)),
        ({"shape": [9, 4], "parameters": {"binary_data_size": 16}}, bytes(16)),
    ),
}
NAMES = ("..%2f..%2fetc%2fpasswd", "%00", "%ff%fe", "a" * 4096, "flowers@-1", "flowers%0d%0aX-Injected: y", "*", "..")
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xff\0\0\xff\xff\x08\x06\0\0\0"
FORM = b"".join(b'--x\r\nContent-Disposition: form-data; name="%d"\r\n\r\n\r\n' % part for part in range(100_000))
BOMB = gzip.compress(bytes(50_000_000))
RANGES = "Range: bytes=" + ",".join(f"{n}-{n}" for n in range(10_000))

REQUESTS: dict[str, Callable[[Target, int], bytes]] = {
    "an unknown model": lambda t, n: rows(t, b"[[3, 1]]", path=f"/predict/nobody-{n}"),
    "a strange name": lambda t, n: rows(t, b"[[3, 1]]", path=f"/predict/{NAMES[n % len(NAMES)]}"),
    "an unknown path": lambda t, n: post(f"/v2/{n}/nothing", b"", t.bearer(), method=("GET", "PUT", "BREW")[n % 3]),
    "a wrong method": lambda t, n: post("/predict/flowers", b"", t.bearer(), method=("GET", "DELETE")[n % 2]),
    "a packed bomb": lambda t, _: rows(t, BOMB, "Content-Encoding: gzip"),
    "a form of many parts": lambda t, _: rows(t, FORM, "Content-Type: multipart/form-data; boundary=x"),
    "an image that is none": lambda t, n: rows(t, PNG + random.Random(n).randbytes(99), "Content-Type: image/png"),
    "a table that is none": lambda t, _: rows(t, b'length,width\n"' + b'""' * 20_000, "Content-Type: text/csv"),
    "ten thousand ranges": lambda t, _: post("/openapi.json", b"", t.bearer(), RANGES[:60_000], method="GET"),
    "a head without end": lambda t, _: rows(t, b"[[3, 1]]", "X-Long: " + "y" * 200_000),
    "a forged host": lambda t, n: rows(t, b"[[3, 1]]").replace(b"localhost", b"evil-%d.example" % n),
    "two lengths": lambda t, n: rows(t, b"[[3, 1]]", ("Transfer-Encoding: chunked", "Content-Length: 9")[n % 2]),
    "junk": lambda _, n: b"\x16\x03\x01" * (n % 2) + random.Random(n).randbytes(4096) + b"\r\n\r\n",
    "no key": lambda _, n: post("/predict/flowers", b"[[3, 1]]"),
    "a wrong key": lambda t, n: rows(t, b"[[3, 1]]", key=f"mm_{n:012d}_{'a' * 32}"),
    "a key that was revoked": lambda t, _: rows(t, b"[[3, 1]]", key="revoked"),
    "a key without the role": lambda t, _: rows(t, b"{}", path="/v2/repository/models/guest/unload"),
    "another tenant's model": lambda t, _: rows(t, b"[[3, 1]]", path="/predict/guest", key="other"),
    "a wrong key to sign in": lambda _, n: post(
        "/signin", b"key=mm_%d" % n, "Content-Type: application/x-www-form-urlencoded", "Origin: http://localhost"
    ),
    "a time that has passed": lambda t, _: infer(t, *images(8), model="small", timeout_us=1),
}


def whole(make: Callable[[Target, int], bytes]) -> Fault:
    """A fault that is one request, which comes at once."""

    def fault(target: Target, n: int) -> Iterator[str]:
        yield said(target, make(target, n))

    return fault


def body(bodies: tuple[bytes, ...]) -> Fault:
    return whole(lambda target, n: rows(target, bodies[n % len(bodies)]))


def tensor(tensors: tuple[tuple[Row, bytes], ...]) -> Fault:
    return whole(lambda target, n: infer(target, *tensors[n % len(tensors)]))


FAULTS: dict[str, Fault] = {
    **{name: body(bodies) for name, bodies in BODIES.items()},
    **{name: tensor(tensors) for name, tensors in TENSORS.items()},
    **{name: whole(make) for name, make in REQUESTS.items()},
}
