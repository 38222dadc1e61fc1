"""Sessions: a person who has shown a key in a browser goes on by a cookie, which is signed and ends by itself."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from modelmill.store.disk import PARTIAL, make_folder, refused

COOKIE = "modelmill_session"
LASTS_S = 12 * 3600


@dataclass(frozen=True)
class Sessions:
    """Makes cookies and reads them; two services with one secret take each other's."""

    secret: bytes
    lasts_s: int = LASTS_S

    def cookie(self, key_id: str, digest: str, now_s: float) -> str:
        """The value of the cookie for whoever has shown the key of that digest."""
        until = int(now_s) + self.lasts_s
        return f"{key_id}.{until}.{self._mark(key_id, until, digest)}"

    def key_id(self, cookie: str, now_s: float) -> str:
        """Whose cookie it says it is; empty for what is none, or is over. `holds` says whether that is true."""
        name, _, rest = cookie.partition(".")
        until = rest.partition(".")[0]
        return name if until.isascii() and until.isdigit() and len(until) < 12 and now_s < int(until) else ""

    def holds(self, cookie: str, digest: str) -> bool:
        """Whether the cookie was made for the key of that digest."""
        parts = cookie.split(".")
        if len(parts) != 3 or not (parts[1].isascii() and parts[1].isdigit() and len(parts[1]) < 12):
            return False
        return hmac.compare_digest(parts[2].encode(), self._mark(parts[0], int(parts[1]), digest).encode())

    def _mark(self, key_id: str, until: int, digest: str) -> str:
        content = f"{key_id}.{until}.{digest}".encode()
        mark = hmac.digest(self.secret, content, hashlib.sha256)
        return base64.urlsafe_b64encode(mark).decode().rstrip("=")


def secret_in(path: Path) -> bytes:
    """The secret in a file, made where it is missing; whoever comes second takes what the first one made."""
    try:
        if not path.exists():
            make_folder(path.parent)
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.write(file, secrets.token_bytes(32))
                os.fsync(file)
                if not path.exists():
                    os.link(temporary, path)
            except FileExistsError:
                pass
            finally:
                os.close(file)
                temporary.unlink()
        return path.read_bytes()
    except OSError as error:
        raise refused(path, error) from error


def in_cookies(header: str) -> str:
    """The session among the cookies of a request; empty without one.

    >>> in_cookies("theme=dark; modelmill_session=a.1.b")
    'a.1.b'
    """
    for part in header.split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def set_cookie(value: str, lasts_s: int, secure: bool) -> str:
    """The header that gives a browser its cookie: for this site's own pages alone, and no script's."""
    tail = "; Secure" if secure else ""
    return f"{COOKIE}={value}; Path=/; Max-Age={lasts_s}; HttpOnly; SameSite=Strict{tail}"
