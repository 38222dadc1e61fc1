"""Asks a server over gRPC: encrypted where HTTP is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from modelmill.conform.deviation import Deviation, shown
from modelmill.conform.http import Http
from modelmill.conform.tls import first_words, pems
from modelmill.errors import MissingExtra, OutOfBounds, RequestError, WorkError
from modelmill.protocol.schema import schema
from modelmill.tls import Tls

PACKAGE = "/inference.GRPCInferenceService/"
SETTINGS = 4
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, SETTINGS, 0, 0, 0, 0, 0))
"""What a client of HTTP/2 says first; a server answers with its settings, unasked."""

Document = dict[str, Any]


@dataclass(frozen=True)
class Refusal:
    """The status of a call that failed."""

    code: str
    words: str

    def __str__(self) -> str:
        return f"{self.code} {shown(self.words)}"


@dataclass(frozen=True)
class Channel:
    """A server's gRPC port. headers: go with every call; tls: None where nothing is encrypted."""

    address: str
    headers: Mapping[str, str]
    timeout_s: float = 10.0
    tls: Tls | None = None

    def reach(self) -> None:
        """Raise WorkError where nothing listens that speaks HTTP/2."""
        parts = urlsplit(f"//{self.address}")
        found = first_words(
            f"--grpc {self.address}", (parts.hostname or "", parts.port or 0), self.timeout_s, self.tls, GREETING
        )
        if found[3:4] != bytes((SETTINGS,)):
            hint = "Is it the port of gRPC?"
            if self.tls is None:
                hint = f"{hint} If it is encrypted, write grpcs://{self.address}."
            raise WorkError(f"--grpc {self.address}", "does not speak gRPC", hint)

    def call(self, path: str, request: Mapping[str, Any] | bytes) -> Document | Refusal:
        """The fields of the answer to a call, or how it failed. Raises Deviation where none comes."""
        known = schema().methods[path]
        message = request if isinstance(request, bytes) else schema().encode(known.request, request)
        with self._open() as channel:
            found = self._tried(lambda: channel.unary_unary(path)(message, **self._given()))
        return found if isinstance(found, Refusal) else _read(known.response, found)

    def stream(self, path: str, requests: Iterable[Mapping[str, Any]]) -> list[bytes] | Refusal:
        """The messages of the answer to a stream of requests, or how it failed. Raises Deviation where none comes."""
        known = schema().methods[path]
        messages = [schema().encode(known.request, request) for request in requests]
        with self._open() as channel:
            found = self._tried(lambda: list(channel.stream_stream(path)(iter(messages), **self._given())))
        return found if isinstance(found, Refusal) else list(found)

    def _given(self) -> dict[str, Any]:
        metadata = tuple((name.lower(), value) for name, value in self.headers.items())
        return {"timeout": self.timeout_s, "metadata": metadata}

    def _tried(self, call: Any) -> Any:
        """What a call gives, or its Refusal."""
        grpc = _library()
        try:
            return call()
        except grpc.RpcError as error:
            code = error.code().name
            if code == "DEADLINE_EXCEEDED":
                raise Deviation(f"no answer within {self.timeout_s:g} s") from None
            return Refusal(code, str(error.details()))

    @contextmanager
    def _open(self) -> Iterator[Any]:
        grpc = _library()
        if self.tls is None:
            opened = grpc.insecure_channel(self.address)
        else:
            opened = grpc.secure_channel(self.address, grpc.ssl_channel_credentials(*pems(self.tls)))
        with opened as channel:
            yield channel


def at(text: str, http: Http) -> Channel:
    """The gRPC port that was named: HOST:PORT, encrypted where HTTP is; or grpc://HOST:PORT, grpcs://HOST:PORT.

    Raises OutOfBounds for what is none, and where headers that go encrypted over HTTP would go in the open.
    """
    _library()
    scheme, _, address = text.rpartition("://")
    try:
        parts = urlsplit(f"//{address}")
        known = scheme in ("", "grpc", "grpcs") and bool(parts.hostname and parts.port) and parts.netloc == address
    except ValueError:
        known = False
    if not known:
        raise OutOfBounds(f"--grpc {text}", "expected HOST:PORT", "Write --grpc 127.0.0.1:8081.")
    secure = scheme == "grpcs" or (not scheme and http.is_secure)
    if http.is_secure and http.headers and not secure:
        said = "would send in the open what --header sends encrypted over HTTP"
        raise OutOfBounds(f"--grpc {text}", said, f"Write --grpc grpcs://{address}.")
    return Channel(address, http.headers, http.timeout_s, http.tls if secure else None)


def _read(name: str, answer: bytes) -> Document:
    try:
        return schema().decode(name, answer)
    except RequestError as error:
        raise Deviation(f"an answer that is no {name.rpartition('.')[2]}: {error.message}") from None


def _library() -> Any:
    try:
        import grpc
    except ImportError:
        raise MissingExtra.of("conform", "grpcio", "grpc") from None
    return grpc
