"""What no client should send: it is answered with 4xx, in time, and the server goes on as before."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from modelmill.conform import tensors
from modelmill.conform.body import packed
from modelmill.conform.check import Check, Level
from modelmill.conform.core import NOBODY
from modelmill.conform.deviation import Deviation, LeftOut, wanted
from modelmill.conform.http import Answer
from modelmill.conform.subject import Document, Subject

FAULT = "RFC 9110, 15.5: the fault is the client's"

Change = Callable[[Document], Any]


def _first(**changes: Any) -> Change:
    """A request whose first input has other values; None takes a key away."""

    def change(request: Document) -> Any:
        first = {**request["inputs"][0], **changes}
        kept = {key: value for key, value in first.items() if value is not None}
        return {**request, "inputs": [kept, *request["inputs"][1:]]}

    return change


def _with(**changes: Any) -> Change:
    """A request with other values; None takes a key away."""

    def change(request: Document) -> Any:
        return {key: value for key, value in {**request, **changes}.items() if value is not None}

    return change


def _number(request: Document) -> int:
    """The place of the first input of numbers. Raises LeftOut."""
    for place, tensor in enumerate(request["inputs"]):
        if tensor["datatype"] not in ("BYTES", "BOOL", *tensors.HALVES) and math.prod(tensor["shape"]):
            return place
    raise LeftOut("the model takes no numbers in JSON")


def _element(text: bytes) -> Change:
    """A request in which the first number is something else, as it is written."""

    def change(request: Document) -> Any:
        place = _number(request)
        tensor = request["inputs"][place]
        data = [orjson.Fragment(text), *tensor["data"][1:]]
        listed = [*request["inputs"][:place], {**tensor, "data": data}, *request["inputs"][place + 1 :]]
        return {**request, "inputs": listed}

    return change


def _longer(request: Document) -> Any:
    data = request["inputs"][0]["data"]
    return _first(data=data + data[:1])(request)


def _shorter(request: Document) -> Any:
    return _first(data=request["inputs"][0]["data"][1:])(request)


def _ragged(request: Document) -> Any:
    for place, tensor in enumerate(request["inputs"]):
        is_plain = tensor["datatype"] not in tensors.HALVES
        if is_plain and len(tensor["shape"]) > 1 and math.prod(tensor["shape"]) > 1:
            half = len(tensor["data"]) - 1
            listed = {**tensor, "data": [tensor["data"][:half], tensor["data"][half:], []]}
            return {**request, "inputs": [*request["inputs"][:place], listed, *request["inputs"][place + 1 :]]}
    raise LeftOut("no input in JSON has more than one axis")


def _other_type(request: Document) -> Any:
    return _first(datatype="INT16" if request["inputs"][0]["datatype"] != "INT16" else "FP64")(request)


def _twice(request: Document) -> Any:
    return {**request, "inputs": [*request["inputs"], request["inputs"][0]]}


def _endless(request: Document) -> Any:
    return _first(shape=[2**31, *([2**31] * max(len(request["inputs"][0]["shape"]) - 1, 1))])(request)


def _negative(request: Document) -> Any:
    return _first(shape=[-1, *request["inputs"][0]["shape"][1:]])(request)


def _cut(request: Document) -> bytes:
    return packed(request)[0][:-7]


def _not_text(request: Document) -> Any:
    return {**request, "id": orjson.Fragment(b'"\xff\xfe\xc0"')}


REQUESTS: Mapping[str, tuple[str, bytes | Change]] = {
    "body.empty": ("an empty body", b""),
    "body.text": ("a body that is no JSON", b"conform"),
    "body.cut": ("JSON that is cut off", _cut),
    "body.list": ("a list", b"[]"),
    "body.null": ("null", b"null"),
    "body.deep": ("JSON of 100,000 brackets", b'{"inputs":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "body.utf8": ("bytes that are no UTF-8", _not_text),
    "inputs.missing": ("no inputs", _with(inputs=None)),
    "inputs.none": ("an empty list of inputs", _with(inputs=[])),
    "inputs.object": ("inputs that are an object", _with(inputs={})),
    "inputs.numbers": ("inputs that are numbers", _with(inputs=[1, 2])),
    "inputs.twice": ("an input twice", _twice),
    "input.name.missing": ("an input without a name", _first(name=None)),
    "input.name.unknown": ("an input that the model has not", _first(name="conform-no-such-input")),
    "input.name.number": ("a name that is a number", _first(name=7)),
    "input.datatype.missing": ("an input without a datatype", _first(datatype=None)),
    "input.datatype.unknown": ("a datatype that does not exist", _first(datatype="FP33")),
    "input.datatype.other": ("another datatype than the model's", _other_type),
    "input.shape.missing": ("an input without a shape", _first(shape=None)),
    "input.shape.text": ("a shape of texts", _first(shape=["1"])),
    "input.shape.negative": ("a negative size", _negative),
    "input.shape.fraction": ("a size with a fraction", _first(shape=[1.5])),
    "input.shape.endless": ("a shape of 2^62 elements and more", _endless),
    "input.shape.rank": ("a shape of nine axes", _first(shape=[1] * 9)),
    "input.data.missing": ("an input without data", _first(data=None)),
    "input.data.longer": ("an element too many", _longer),
    "input.data.shorter": ("an element too few", _shorter),
    "input.data.ragged": ("lists of different lengths", _ragged),
    "input.data.text": ("text among numbers", _element(b'"conform"')),
    "input.data.nan": ("the bare token NaN, which is no JSON", _element(b"NaN")),
    "input.data.object": ("an object among numbers", _element(b"{}")),
    "input.data.huge": ("the number 1e400", _element(b"1e400")),
    "outputs.unknown": ("an output that the model has not", _with(outputs=[{"name": "conform-no-such-output"}])),
    "outputs.object": ("outputs that are an object", _with(outputs={"name": 1})),
    "id.number": ("an id that is a number", _with(id=42)),
    "parameters.list": ("parameters that are a list", _with(parameters=[1])),
    "parameters.nested": ("a parameter that is an object", _with(parameters={"a": {"b": 1}})),
}
"""What is sent, and how it is made from a request that the model takes."""


def _refused(answer: Answer) -> None:
    wanted(400 <= answer.status < 500, str(answer))


def _request(made: bytes | Change) -> Callable[[Subject], None]:
    def run(subject: Subject) -> None:
        _refused(subject.infer(made if isinstance(made, bytes) else made(subject.request())))

    return run


def _asks(method: str, path: str, body: bytes | None = None, code: int = 0) -> Callable[[Subject], None]:
    def run(subject: Subject) -> None:
        answer = subject.http.ask(method, path.format(model=subject.path()), body)
        wanted(300 <= answer.status < 500 and code in (0, answer.status), str(answer))

    return run


def cut_body(subject: Subject) -> None:
    """A client that leaves in the middle of its body."""
    head = f"POST /{subject.path(call='infer')} HTTP/1.1\r\nHost: {subject.http.host}\r\nContent-Length: 100\r\n\r\n{{"
    with contextlib.suppress(Deviation):  # no answer is wanted, and we leave soon
        replace(subject.http, timeout_s=0.5).raw(head.encode())
    alive(subject)


def smuggled(subject: Subject) -> None:
    """Two lengths of one body."""
    body = b"0\r\n\r\n"
    head = f"POST /{subject.path(call='infer')} HTTP/1.1\r\nHost: {subject.http.host}\r\nConnection: close\r\n"
    lengths = f"Content-Length: {len(body)}\r\nTransfer-Encoding: chunked\r\n\r\n"
    found = subject.http.raw((head + lengths).encode() + body)
    wanted(not found or found[9:10] == b"4", f"{found[:60]!r}")


def not_http(subject: Subject) -> None:
    """Bytes that are no HTTP."""
    found = subject.http.raw(b"\x16\x03\x01 conform \0\0\r\n\r\n")
    wanted(not found or b" 4" in found[:16], f"{found[:60]!r}")


def alive(subject: Subject) -> None:
    """The server answers as it did."""
    answer = subject.http.ask("GET", "v2/health/live")
    wanted(answer.status == 200, str(answer))
    subject.compare(tensors.outputs_of(subject.answered(subject.request())), subject.usual, "before")


def _path(id: str, clause: str, run: Callable[[Subject], None], where: str = FAULT, level: Level = "must") -> Check:
    return Check(f"robustness.{id}", clause, where, run, level)


METHOD = "RFC 9110, 15.5.6"
LONG, CLIMBING = "a" * 4000, "..%2f..%2f..%2fetc%2fpasswd"

CHECKS = (
    *(Check(f"robustness.{name}", f"4xx for {said}", FAULT, _request(made)) for name, (said, made) in REQUESTS.items()),
    _path("method.infer", "4xx for GET .../infer", _asks("GET", "{model}/infer")),
    _path("method.infer.405", "405 for GET .../infer", _asks("GET", "{model}/infer", None, 405), METHOD, "should"),
    _path("method.metadata", "4xx for DELETE of a model", _asks("DELETE", "{model}")),
    _path("path.unknown", "404 for a path that is not there", _asks("GET", "v2/conform/nothing", None, 404)),
    _path("path.long", "4xx for a name of 4,000 letters", _asks("GET", f"v2/models/{LONG}")),
    _path("path.climbing", "4xx for a name that climbs", _asks("GET", f"v2/models/{CLIMBING}")),
    _path("path.nul", "4xx for a name with a zero byte", _asks("GET", "v2/models/a%00b")),
    _path("path.version", "4xx for a version that is no version", _asks("GET", "{model}/versions/..%2f")),
    _path("model.infer", "4xx for a model that is not there", _asks("POST", f"v2/models/{NOBODY}/infer", b"{}")),
    _path("http.cut", "a client that leaves in the middle harms no other", cut_body),
    _path("http.lengths", "4xx, or no answer, for two lengths of one body", smuggled, "RFC 9112, 6.1"),
    _path("http.bytes", "4xx, or no answer, for bytes that are no HTTP", not_http, "RFC 9112, 2.2"),
    _path("alive", "after all of that the server answers as before", alive),
)
