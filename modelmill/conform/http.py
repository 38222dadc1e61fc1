"""Asks a server over HTTP, by the standard library alone, and can send what no client should."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

import orjson

from modelmill.conform.deviation import Deviation, shown
from modelmill.errors import OutOfBounds, WorkError

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
    """A server at a URL. headers: go with every request, such as a key."""

    url: str
    headers: Mapping[str, str]
    timeout_s: float = 10.0

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
            raise Deviation(f"no answer: {type(error).__name__} {error}".rstrip()) from None
        finally:
            connection.close()

    def raw(self, data: bytes) -> bytes:
        """What comes back for bytes as they are, until the server closes the connection or nothing more comes."""
        parts = self._parts
        found = b""
        try:
            with socket.create_connection((parts.hostname or "", self._port), self.timeout_s) as plain:
                opened = _wrapped(plain, parts)
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
        """Raise WorkError where nothing listens."""
        try:
            socket.create_connection((self._parts.hostname or "", self._port), self.timeout_s).close()
        except OSError as error:
            hint = "Is the server running, and the URL right?"
            raise WorkError(self.url, f"cannot be reached: {error.strerror or error}", hint) from None

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
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        return kind(self._parts.hostname or "", self._port, timeout=self.timeout_s)


def at(url: str, headers: Mapping[str, str], timeout_s: float = 10.0) -> Http:
    """The server at a URL. Raises OutOfBounds for what is none."""
    whole = url if "://" in url else f"http://{url}"
    parts = urlsplit(whole)
    try:
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise OutOfBounds(url, "is not the URL of a server", "Write http://127.0.0.1:8080.")
    return Http(whole, headers, timeout_s)


def _wrapped(plain: socket.socket, parts: SplitResult) -> socket.socket:
    if parts.scheme != "https":
        return plain
    return ssl.create_default_context().wrap_socket(plain, server_hostname=parts.hostname)
