"""Whom a client trusts, and what it shows of itself, where a connection is encrypted."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from modelmill.errors import OutOfBounds, WorkError

OTHER_NAME = (62, 64)
"""OpenSSL's codes for a certificate that is for another host, or for another address."""


class Words(NamedTuple):
    """How files are named by whoever gives them: that of an authority, and a certificate with its key."""

    ca: str
    pair: str


FLAGS = Words("--ca-file {}", "--cert {} --key {}")
ARGUMENTS = Words("ca_file={}", "cert=({}, {})")


@dataclass(frozen=True)
class Tls:
    """PEM files: `ca` signs the certificates that are trusted, beside none other; `cert` and `key` are the client's.

    A certificate without a key has its key in the same file.
    """

    ca: str = ""
    cert: str = ""
    key: str = ""
    words: Words = FLAGS

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
            raise _unusable(self.words.ca.format(self.ca), error) from None
        try:
            if self.cert:
                context.load_cert_chain(self.cert, self.key or None, password="")
        except (OSError, ValueError) as error:
            raise _unusable(self.words.pair.format(self.cert, self.key or self.cert), error) from None
        return context

    def mistrust(self, where: str, error: ssl.SSLError) -> WorkError:
        """What to say where the two ends do not come to trust each other."""
        if isinstance(error, ssl.SSLCertVerificationError):
            hint = f"Name the certificate of its authority: {self.words.ca.format('FILE')}."
            if error.verify_code in OTHER_NAME:
                hint = "Ask it by a name that its certificate has."
            return WorkError(where, f"shows a certificate that is not trusted: {error.verify_message}", hint)
        if isinstance(error, ssl.SSLEOFError):
            hint = f"Is it encrypted at all? Where it wants a client's certificate, show one: {self._pair}."
            return WorkError(where, "ends the connection before it is encrypted", hint)
        reason = (error.reason or str(error)).replace("_", " ").lower()
        if "alert" in reason:
            hint = f"Show a certificate that it takes: {self._pair}."
            return WorkError(where, f"refuses the encrypted connection: {reason}", hint)
        return WorkError(where, f"does not speak TLS: {reason}", "Is it encrypted at all, and the port right?")

    def silence(self, where: str) -> WorkError:
        """What to say where a connection ends before anything was answered: many servers do so by mutual TLS."""
        hint = f"Does it want a client's certificate? Show one: {self._pair}."
        if self.cert:
            hint = f"Does it trust the authority of the certificate that is shown? Show another: {self._pair}."
        return WorkError(where, "ends the encrypted connection without an answer", hint)

    @property
    def _pair(self) -> str:
        return self.words.pair.format("FILE", "FILE")


def _unusable(given: str, error: Exception) -> OutOfBounds:
    reason = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else None
    said = reason or getattr(error, "reason", None) or str(error)
    return OutOfBounds(given, f"cannot be used: {said}", "Give PEM, a key without a password.")
