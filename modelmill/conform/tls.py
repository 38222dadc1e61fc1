"""Whom the kit trusts, and what it shows of itself, where a connection is encrypted: the same over HTTP and gRPC."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from modelmill.errors import OutOfBounds, WorkError

OTHER_NAME = (62, 64)
"""OpenSSL's codes for a certificate that is for another host, or for another address."""


@dataclass(frozen=True)
class Tls:
    """PEM files: `ca` signs the certificates that are trusted, beside none other; `cert` and `key` are the client's."""

    ca: str = ""
    cert: str = ""
    key: str = ""

    @property
    def is_given(self) -> bool:
        """Whether any file is named; without, the machine's own authorities are trusted."""
        return bool(self.ca or self.cert or self.key)

    @cached_property
    def context(self) -> ssl.SSLContext:
        """What connections are made with. Raises OutOfBounds for files that cannot be used."""
        if self.key and not self.cert:
            raise OutOfBounds(f"--key {self.key}", "is a key without its certificate", "Name both: --cert FILE.")
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
        except OSError as error:
            raise _unusable(f"--ca-file {self.ca}", error) from None
        try:
            if self.cert:
                context.load_cert_chain(self.cert, self.key or None, password="")
        except (OSError, ValueError) as error:
            raise _unusable(f"--cert {self.cert} --key {self.key or self.cert}", error) from None
        return context

    def pems(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """What the files hold: roots, key, certificate. Where no roots are named, those of the machine."""
        roots = self.ca or ssl.get_default_verify_paths().cafile
        named = (roots, (self.key or self.cert) if self.cert else "", self.cert)
        root, key, cert = (Path(name).read_bytes() if name else None for name in named)
        return root, key, cert


def first_words(where: str, address: tuple[str, int], timeout_s: float, tls: Tls | None, greeting: bytes) -> bytes:
    """What a server says to a greeting; nothing where it does not answer it in time.

    Raises WorkError where nothing listens, and where the two do not come to trust each other.
    """
    try:
        plain = socket.create_connection(address, timeout_s)
    except OSError as error:
        hint = "Is the server running, and the address right?"
        raise WorkError(where, f"cannot be reached: {error.strerror or error}", hint) from None
    with plain:
        try:
            opened = tls.context.wrap_socket(plain, server_hostname=address[0]) if tls is not None else plain
            with opened:
                opened.sendall(greeting)
                found = opened.recv(64)
        except ssl.SSLError as error:
            raise _mistrust(where, error) from None
        except TimeoutError:
            return b""
        except OSError:
            found = b""
    if tls is not None and not found:
        hint = "Does it want a client's certificate? Show one: --cert FILE --key FILE."
        raise WorkError(where, "ends the encrypted connection without an answer", hint)
    return found


def speaks_tls(address: tuple[str, int], timeout_s: float) -> bool:
    """Whether connections there are encrypted, by whomever: nothing is said over the one that is made."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection(address, timeout_s) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False


def _mistrust(where: str, error: ssl.SSLError) -> WorkError:
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = "Name the certificate of its authority: --ca-file FILE."
        if error.verify_code in OTHER_NAME:
            hint = "Ask it by a name that its certificate has."
        return WorkError(where, f"shows a certificate that is not trusted: {error.verify_message}", hint)
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "alert" in reason:
        hint = "Show a certificate that it takes: --cert FILE --key FILE."
        return WorkError(where, f"refuses the encrypted connection: {reason}", hint)
    return WorkError(where, f"does not speak TLS: {reason}", "Is it encrypted at all, and the port right?")


def _unusable(flag: str, error: Exception) -> OutOfBounds:
    reason = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else None
    said = reason or getattr(error, "reason", None) or str(error)
    return OutOfBounds(flag, f"cannot be used: {said}", "Give PEM, a key without a password.")
