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
MARK_BYTES, MARK = 12, 16
"""Random bytes by which a session is told from the others of its key, and the characters that say them."""


@dataclass(frozen=True)
class Session:
    """What a cookie says."""

    key_id: str
    until_s: int
    mark: str
    """Which session of the key it is."""
    seal: str
    """What shows that all of it was said here."""


@dataclass(frozen=True)
class Sessions:
    """Makes cookies and reads them; two services with one secret take each other's."""

    secret: bytes
    lasts_s: int = LASTS_S

    def cookie(self, key_id: str, digest: str, now_s: float) -> str:
        """The value of the cookie for whoever has shown the key of that digest."""
        until_s, mark = int(now_s) + self.lasts_s, secrets.token_urlsafe(MARK_BYTES)
        return f"{key_id}.{until_s}.{mark}{self._seal(key_id, until_s, mark, digest)}"

    def read(self, cookie: str, now_s: float) -> Session | None:
        """What a cookie says, `holds` whether that is true; None for what is none, or is over."""
        parts = cookie.split(".")
        if len(parts) != 3 or not (parts[1].isascii() and parts[1].isdigit() and len(parts[1]) < 12):
            return None
        key_id, until_s, tail = parts[0], int(parts[1]), parts[2]
        return Session(key_id, until_s, tail[:MARK], tail[MARK:]) if now_s < until_s else None

    def holds(self, session: Session, digest: str) -> bool:
        """Whether the session was begun with the key of that digest."""
        seal = self._seal(session.key_id, session.until_s, session.mark, digest)
        return hmac.compare_digest(session.seal.encode(), seal.encode())

    def _seal(self, key_id: str, until_s: int, mark: str, digest: str) -> str:
        content = f"{key_id}.{until_s}.{mark}.{digest}".encode()
        seal = hmac.digest(self.secret, content, hashlib.sha256)
        return base64.urlsafe_b64encode(seal).decode().rstrip("=")


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
