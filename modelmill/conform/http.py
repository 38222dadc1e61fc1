"""Asks a server over HTTP, by the standard library alone, and can send what no client should."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

import orjson

from modelmill.conform.deviation import Deviation, shown
from modelmill.conform.tls import first_words, speaks_tls
from modelmill.errors import OutOfBounds, WorkError
from modelmill.tls import Tls

JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media(self) -> str:
        """What it says it is, without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def json(self) -> Any:
        """The body as a JSON value. Raises Deviation where it is none."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            raise Deviation(f"{self.status}, and the body is no JSON: {shown(self.body)}") from None

    def object(self) -> dict[str, Any]:
        """The body of a 200 as a JSON object. Raises Deviation for anything else."""
        if self.status != 200:
            raise Deviation(str(self))
        found = self.json()
        if not isinstance(found, dict):
            raise Deviation(f"a body that is no object: {shown(found)}")
        return found

    def __str__(self) -> str:
        return f"{self.status} {shown(self.body)}"


@dataclass(frozen=True)
class Http:
    """A server at a URL. headers: go with every request, such as a key. tls: for https."""

    url: str
    headers: Mapping[str, str]
    timeout_s: float = 10.0
    tls: Tls = field(default_factory=Tls)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """The answer to a request. Raises Deviation where none comes in time, or something that is not HTTP."""
        connection = self._connection()
        try:
            connection.putrequest(method, self._path(path), skip_accept_encoding=True)
            given = {**self.headers, **(JSON if body is not None and headers is None else headers or {})}
            if body is not None and "content-length" not in given:
                given["content-length"] = str(len(body))
            for name, value in given.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        except TimeoutError:
            raise Deviation(f"no answer within {self.timeout_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise Deviation(f"no answer: {type(error).__name__} {shown(str(error).encode())}") from None
        finally:
            connection.close()

    def raw(self, data: bytes) -> bytes:
        """What comes back for bytes as they are, until the server closes the connection or nothing more comes."""
        parts = self._parts
        found = b""
        try:
            with socket.create_connection((parts.hostname or "", self._port), self.timeout_s) as plain:
                host = parts.hostname
                opened = self.tls.context.wrap_socket(plain, server_hostname=host) if self.is_secure else plain
                with opened:
                    opened.sendall(data)
                    while piece := opened.recv(65_536):
                        found += piece
        except TimeoutError:
            if not found:
                raise Deviation(f"no answer within {self.timeout_s:g} s") from None
        except OSError:
            pass
        return found

    def reach(self) -> None:
        """Raise WorkError where nothing speaks HTTP/1.1, the two do not trust each other, or the URL goes on to /v2."""
        request = f"GET {self._path('v2/health/live')} HTTP/1.1\r\nHost: {self.host}\r\nConnection: close\r\n\r\n"
        address = (self._parts.hostname or "", self._port)
        tls = self.tls if self.is_secure else None
        found = first_words(self.url, address, self.timeout_s, tls, request.encode())
        if tls is None and not found.startswith(b"HTTP/") and speaks_tls(address, self.timeout_s):
            raise WorkError(self.url, "speaks TLS", "Write https://.")
        if found and not found.startswith(b"HTTP/"):
            hint = f"Is it the port of gRPC? Give the URL of HTTP, and beside it --grpc {self.host}."
            raise WorkError(self.url, "does not speak HTTP/1.1", hint)
        above, sign, _ = f"{self._parts.path}/".partition("/v2/")
        if sign and found[9:12] == b"404":
            hint = f"Give what stands before /v2: {self._parts._replace(path=above).geturl()}."
            raise WorkError(self.url, "has no v2/health/live below it", hint)

    @property
    def is_secure(self) -> bool:
        """Whether what goes to it is encrypted."""
        return self._parts.scheme == "https"

    @property
    def host(self) -> str:
        """The value of the header Host."""
        return self._parts.netloc

    @property
    def _parts(self) -> SplitResult:
        return urlsplit(self.url)

    @property
    def _port(self) -> int:
        return self._parts.port or (443 if self._parts.scheme == "https" else 80)

    def _path(self, path: str) -> str:
        return f"{self._parts.path.rstrip('/')}/{path}"

    def _connection(self) -> http.client.HTTPConnection:
        host = self._parts.hostname or ""
        if self.is_secure:
            return http.client.HTTPSConnection(host, self._port, timeout=self.timeout_s, context=self.tls.context)
        return http.client.HTTPConnection(host, self._port, timeout=self.timeout_s)


def at(url: str, headers: Mapping[str, str], timeout_s: float = 10.0, tls: Tls | None = None) -> Http:
    """The server at a URL. Raises OutOfBounds for what is none, and for files of TLS that cannot be used."""
    whole = url if "://" in url else f"http://{url}"
    parts = urlsplit(whole)
    try:
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise OutOfBounds(url, "is not the URL of a server", "Write http://127.0.0.1:8080.")
    found = Http(whole, headers, timeout_s, tls or Tls())
    if found.is_secure or found.tls.is_given:
        assert found.tls.context, "files are read before anything is sent"
    return found
