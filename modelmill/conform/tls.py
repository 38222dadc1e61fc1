"""How the kit comes to a server where a connection is encrypted: the same over HTTP and gRPC."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from modelmill.errors import WorkError
from modelmill.tls import Tls


def pems(tls: Tls) -> tuple[bytes | None, bytes | None, bytes | None]:
    """What the files hold: roots, key, certificate. Where no roots are named, those of the machine."""
    roots = tls.ca or ssl.get_default_verify_paths().cafile
    named = (roots, (tls.key or tls.cert) if tls.cert else "", tls.cert)
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
            assert tls is not None, "nothing else is encrypted"
            raise tls.mistrust(where, error) from None
        except TimeoutError:
            return b""
        except OSError:
            found = b""
    if tls is not None and not found:
        raise tls.silence(where)
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
