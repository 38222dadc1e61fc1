"""What goes to a server, and what comes back: JSON, and after it the tensors that are bytes."""

from __future__ import annotations

from typing import Any

import orjson

from modelmill.conform.deviation import wanted
from modelmill.conform.http import JSON, Answer

LENGTH = "inference-header-content-length"
OCTETS = {"content-type": "application/octet-stream"}

Document = dict[str, Any]


def packed(request: Any) -> tuple[bytes, dict[str, str]]:
    """A request as it is sent, and its headers: data that are bytes follow the JSON.

    >>> packed({"inputs": [{"name": "x", "data": b"ab"}, {"name": "y", "data": [1]}]})[0]
    b'{"inputs":[{"name":"x","parameters":{"binary_data_size":2}},{"name":"y","data":[1]}]}ab'
    """
    inputs = request.get("inputs") if isinstance(request, dict) else None
    pieces = [tensor["data"] for tensor in inputs if _is_bytes(tensor)] if isinstance(inputs, list) else []
    if not pieces:
        return orjson.dumps(request), JSON
    listed = [_announced(tensor) if _is_bytes(tensor) else tensor for tensor in request["inputs"]]
    head = orjson.dumps({**request, "inputs": listed})
    return head + b"".join(pieces), {**OCTETS, LENGTH: str(len(head))}


def _is_bytes(tensor: Any) -> bool:
    return isinstance(tensor, dict) and isinstance(tensor.get("data"), bytes)


def _announced(tensor: Document) -> Document:
    """An input without its data, whose length it says."""
    kept = {key: value for key, value in tensor.items() if key != "data"}
    return {**kept, "parameters": {**tensor.get("parameters", {}), "binary_data_size": len(tensor["data"])}}


def parts(answer: Answer) -> tuple[Document, bytes]:
    """The JSON object of a 200, and the bytes after it. Raises Deviation."""
    wanted(answer.status == 200, str(answer))
    length = answer.headers.get(LENGTH)
    if length is None:
        return answer.object(), b""
    wanted(length.isdigit() and int(length) <= len(answer.body), f"{LENGTH} {length!r} of {len(answer.body)} bytes")
    head, tail = answer.body[: int(length)], answer.body[int(length) :]
    return Answer(200, answer.headers, head).object(), tail
