"""TLS for both ports, with certificates that are read anew while the service runs."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from modelmill.errors import UsageError, WorkError


@dataclass(frozen=True)
class TlsFiles:
    """Where the certificate of the service and its key lie, and that of whoever signs the clients' certificates."""

    cert: Path
    key: Path
    client_ca: Path | None = None
    """With it, clients must show a certificate of this authority."""


def files_of(cert: Path | None, key: Path | None, client_ca: Path | None) -> TlsFiles | None:
    """The files that were named; None without any. Raises UsageError for one without the others."""
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        missing = "--tls-cert" if cert is None else "--tls-key"
        hint = "Name the certificate and its key: --tls-cert FILE --tls-key FILE"
        raise UsageError(missing, "is wanted with the other files", hint)
    return TlsFiles(cert, key, client_ca)


class Tls:
    """The certificates that new connections are made with; `reload` replaces them, and the old ones stay if it fails.

    One context listens for ever, and hands each new connection to the newest one: connections that are open stay open.
    """

    def __init__(self, files: TlsFiles) -> None:
        self.files = files
        self.newest: dict[str, ssl.SSLContext] = {}
        _read(files, "")

    def offering(self, protocol: str) -> ssl.SSLContext:
        """A context to listen with, which offers a protocol (ALPN) to clients."""
        self.newest[protocol] = _read(self.files, protocol)
        listening = _Listening(ssl.PROTOCOL_TLS_SERVER)
        listening.tls, listening.protocol_offered = self, protocol
        return listening

    def reload(self) -> None:
        """Read the files anew. Raises WorkError, and leaves everything as it is, where they cannot be used."""
        self.newest = {protocol: _read(self.files, protocol) for protocol in self.newest}


class _Listening(ssl.SSLContext):
    """What a port listens with: it has no certificate of its own, and begins every connection with the newest context.

    A connection that were handed on later, in its handshake, would resume what an older context began, and nobody would
    look at its client's certificate again, whose authority may be trusted no longer.
    """

    tls: Tls
    protocol_offered: str

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """A connection on the newest context."""
        newest = self.tls.newest[self.protocol_offered]
        return newest.wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def _read(files: TlsFiles, protocol: str) -> ssl.SSLContext:
    """A context with the files as they are now."""
    for path in (files.cert, files.key, *((files.client_ca,) if files.client_ca else ())):
        _check_readable(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if protocol:
        context.set_alpn_protocols([protocol])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(files.cert, files.key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        hint = "Give the certificate, with those between it and its authority, and its key without a password, as PEM."
        raise WorkError(f"{files.cert}, {files.key}", f"cannot be used: {_reason(error)}", hint) from None
    if files.client_ca is not None:
        try:
            context.load_verify_locations(files.client_ca)
        except (ssl.SSLError, OSError) as error:
            hint = "Give the certificate of the authority as PEM."
            raise WorkError(str(files.client_ca), f"cannot be used: {_reason(error)}", hint) from None
        context.verify_mode = ssl.CERT_REQUIRED
        context.options |= ssl.OP_NO_TICKET  # a client is let in by its certificate, each time
        context.num_tickets = 0
    return context


def _check_readable(path: Path) -> None:
    """Say which file cannot be read: OpenSSL would not."""
    try:
        with path.open("rb"):
            return
    except OSError as error:
        raise WorkError(str(path), f"cannot be read: {error.strerror}", "Check its name and who may read it.") from None


def _reason(error: Exception) -> str:
    """What OpenSSL says, without the place in its source; of what is no PEM it says nothing but that."""
    if not isinstance(error, ssl.SSLError):
        return str(error)
    return error.reason.replace("_", " ").lower() if error.reason else "what is wanted is not in it as PEM"
