"""A client of a running service: the same calls as on a loaded model, over HTTP, by the standard library alone."""

from __future__ import annotations

import http.client
import json
import math
import socket
import ssl
import struct
import threading
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np

from modelmill.errors import (
    DeadlineExceeded,
    Forbidden,
    NotServed,
    OutOfBounds,
    Overloaded,
    RequestError,
    TooLarge,
    Unidentified,
    WorkError,
)
from modelmill.signature import DTYPES
from modelmill.tls import ARGUMENTS, Tls

Array = np.ndarray[Any, Any]

REFUSALS: dict[int, type[RequestError]] = {
    401: Unidentified,
    403: Forbidden,
    404: NotServed,
    413: TooLarge,
    429: Overloaded,
    503: Overloaded,
    504: DeadlineExceeded,
}
JSON = {"Content-Type": "application/json"}


class Client:
    """A service at a URL; it keeps one connection a thread open.

    key: what `modelmill keys create` gave, where the service needs one. ca_file: whose certificates are trusted, where
    that is not one of the system's. cert: what is shown to a service that wants its clients' certificates: the files
    of a certificate and of its key, or one file of both. All are PEM, and read once, here. Raises RequestError for what
    is no URL, OutOfBounds for files that cannot be used, and for a certificate that http:// would not show.

    >>> Client("http://127.0.0.1:8080/").url
    'http://127.0.0.1:8080'
    """

    def __init__(
        self,
        url: str,
        timeout_s: float = 60.0,
        key: str = "",
        ca_file: str | Path | None = None,
        cert: str | Path | tuple[str | Path, str | Path] | None = None,
    ) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RequestError(url, "is not the URL of a service", "Try http://127.0.0.1:8080.")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self.timeout_s = timeout_s
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        if cert is not None and parts.scheme != "https":
            raise OutOfBounds("cert", f"would not be shown at {self.url}, which is not encrypted", "Write https://.")
        self._tls = _tls(ca_file, cert) if parts.scheme == "https" else None
        self._parts = parts
        self._local = threading.local()
        self._metadata: dict[str, dict[str, Any]] = {}
        self._connections: list[http.client.HTTPConnection] = []

    def __enter__(self) -> Client:
        """The client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close this thread's connection."""
        self.close()

    def __del__(self) -> None:
        """Close what a client that was forgotten left open, in any thread."""
        for connection in getattr(self, "_connections", ()):
            connection.close()

    def predict(self, name: str, rows: Sequence[Any] | Array | Mapping[str, Any]) -> dict[str, Array]:
        """The outputs for rows, by name: what the local `predict` gives.

        `rows` is a sequence of objects or lists; an array whose first axis is the rows, for a model of one input or of
        as many inputs as the array has columns; or a mapping of input name to column. `name` may be NAME@3.
        """
        if isinstance(rows, Mapping):
            return self.infer(name, rows)
        if isinstance(rows, np.ndarray) and rows.dtype != object:
            inputs = self._fields(name)["inputs"]
            if len(inputs) == 1:
                return self.infer(name, {inputs[0]["name"]: rows})
        body = json.dumps(_plain(rows), allow_nan=False, separators=(",", ":")).encode()
        got, content = self._call("POST", f"/predict/{_quoted(name)}", body, JSON)
        answered = got.get("modelmill-version", name)
        return _columns(json.loads(content)["predictions"], self._fields(answered)["outputs"])

    def infer(
        self, name: str, columns: Mapping[str, Any], outputs: Sequence[str] | None = None, binary: bool = True
    ) -> dict[str, Array]:
        """The outputs for columns by input name, over the Open Inference Protocol, as bytes or as JSON."""
        known = self._metadata.get(name)
        try:
            return self._infer(name, columns, outputs, binary)
        except RequestError:
            if known is None or self.metadata(name) == known:
                raise
            return self._infer(name, columns, outputs, binary)  # another version took over, with other types

    def _infer(
        self, name: str, columns: Mapping[str, Any], outputs: Sequence[str] | None, binary: bool
    ) -> dict[str, Array]:
        datatypes = {field["name"]: field["datatype"] for field in self._fields(name)["inputs"]}
        tensors: list[dict[str, Any]] = []
        tail: list[bytes] = []
        for column, values in columns.items():
            tensor, data = _tensor(column, values, datatypes.get(column, "FP32"), binary)
            tensors.append(tensor)
            tail.append(data)
        request: dict[str, Any] = {"inputs": tensors, "parameters": {"binary_data_output": binary}}
        if outputs is not None:
            request["outputs"] = [{"name": output} for output in outputs]
        head = json.dumps(request, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
        path = f"/v2/models/{_quoted(name)}/infer"
        got, body = self._call("POST", path, head + b"".join(tail), headers if binary else JSON)
        return _outputs(body, got.get("inference-header-content-length"))

    def models(self) -> list[dict[str, Any]]:
        """The served models, each in a few words."""
        found: list[dict[str, Any]] = json.loads(self._call("GET", "/api/models")[1])["models"]
        return found

    def changes(self, name: str) -> list[dict[str, Any]]:
        """What changed about a model, newest first: with release notes, evidence of rollouts, and routes."""
        found: list[dict[str, Any]] = json.loads(self._call("GET", f"/api/models/{_quoted(name)}/changes")[1])[
            "changes"
        ]
        return found

    def metadata(self, name: str) -> dict[str, Any]:
        """What a model takes and gives: the protocol's metadata, asked anew."""
        found: dict[str, Any] = json.loads(self._call("GET", f"/v2/models/{_quoted(name)}")[1])
        self._metadata[name] = found
        return found

    def ready(self) -> bool:
        """Whether the service takes requests."""
        try:
            return bool(json.loads(self._call("GET", "/v2/health/ready")[1])["ready"])
        except (Overloaded, WorkError):
            return False

    def close(self) -> None:
        """Close this thread's connection; the next call opens another."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._connections.remove(connection)
            self._local.connection = None

    def _fields(self, name: str) -> dict[str, Any]:
        return self._metadata.get(name) or self.metadata(name)

    def _call(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[Mapping[str, str], bytes]:
        """Headers and body of the answer; a connection that the service closed meanwhile is opened anew, once."""
        fresh = getattr(self._local, "connection", None) is None
        try:
            status, got, content = self._send(method, path, body, headers or {})
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
            self.close()
            if fresh:
                raise self._unreachable(error) from None
            return self._call(method, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._unreachable(error) from None
        if status >= 400:
            raise _refusal(f"{self.url}{path}", status, content)
        return got, content

    def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        if getattr(self._local, "connection", None) is None:
            self._local.connection = self._connect()
        connection: http.client.HTTPConnection = self._local.connection
        connection.request(method, self._parts.path.rstrip("/") + path, body, {**self._headers, **headers})
        response = connection.getresponse()
        return response.status, {key.lower(): value for key, value in response.getheaders()}, response.read()

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        connection = http.client.HTTPConnection(host, port, timeout=self.timeout_s)
        if self._tls is not None:
            connection = http.client.HTTPSConnection(host, port, timeout=self.timeout_s, context=self._tls.context)
        connection.connect()
        self._connections.append(connection)
        # Headers and body go in two writes: without this the second waits for the first to be acknowledged.
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _unreachable(self, error: Exception) -> WorkError:
        if self._tls is not None and isinstance(error, ssl.SSLError):
            return self._tls.mistrust(self.url, error)
        if self._tls is not None and isinstance(error, ConnectionResetError | BrokenPipeError):
            return self._tls.silence(self.url)
        return WorkError(self.url, f"cannot be reached: {error}", "Is `modelmill serve` running there?")


def _tls(ca_file: str | Path | None, cert: str | Path | tuple[str | Path, str | Path] | None) -> Tls:
    """Whom to trust and what to show, with its files read. Raises OutOfBounds."""
    shown, key = cert if isinstance(cert, tuple) else (cert or "", "")
    tls = Tls(str(ca_file or ""), str(shown), str(key), ARGUMENTS)
    assert tls.context, "files are read before anything is sent"
    return tls


def _refusal(where: str, status: int, content: bytes) -> Exception:
    try:
        message = str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        message = f"answered {status}"
    if status == 500:
        return WorkError(where, message, "The log of the service says more.")
    return REFUSALS.get(status, RequestError)(where, message, "")


def _quoted(name: str) -> str:
    return quote(name, safe="@")


def _plain(value: Any) -> Any:
    """Rows as JSON values: missing numbers are null, dates ISO text, arrays lists."""
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    return value.isoformat() if isinstance(value, date | datetime) else value


def _columns(predictions: Sequence[Mapping[str, Any]], fields: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
    """Predictions of rows as one array an output."""
    columns: dict[str, Array] = {}
    for field in fields:
        values = [prediction[field["name"]] for prediction in predictions]
        if values and isinstance(values[0], dict):
            values = [list(value.values()) for value in values]
        column = np.array(values, DTYPES[field["datatype"]])
        ones = [1] * (len(field["shape"]) - column.ndim)  # one element a row comes bare
        columns[field["name"]] = column.reshape(*column.shape, *ones)
    return columns


def _tensor(name: str, values: Any, datatype: str, binary: bool) -> tuple[dict[str, Any], bytes]:
    """A column as a tensor of the protocol, and its bytes where they follow the JSON."""
    array = np.asarray(values, DTYPES[datatype])
    tensor: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": datatype}
    if not binary:
        return {**tensor, "data": _plain(array.reshape(-1))}, b""
    if datatype == "BYTES":
        texts = [str(value).encode() for value in array.reshape(-1).tolist()]
        data = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    else:
        data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    return {**tensor, "parameters": {"binary_data_size": len(data)}}, data


def _outputs(body: bytes, json_bytes: str | None) -> dict[str, Array]:
    """The tensors of an answer by name."""
    length = len(body) if json_bytes is None else int(json_bytes)
    outputs: dict[str, Array] = {}
    at = length
    for tensor in json.loads(body[:length])["outputs"]:
        dtype = DTYPES[tensor["datatype"]]
        size = tensor.get("parameters", {}).get("binary_data_size")
        if size is None:
            array = np.array(tensor["data"], dtype)
        elif tensor["datatype"] == "BYTES":
            array = np.array(_texts(body[at : at + size]), object)
        else:
            array = np.frombuffer(body, np.dtype(dtype).newbyteorder("<"), size // np.dtype(dtype).itemsize, at)
            array = array.astype(dtype)
        at += size or 0
        outputs[tensor["name"]] = array.reshape(tensor["shape"])
    return outputs


def _texts(data: bytes) -> list[str]:
    texts: list[str] = []
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        texts.append(data[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return texts
