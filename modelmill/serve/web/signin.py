"""Signing in with a browser: a key is shown once, and a cookie speaks for it from then on."""

from __future__ import annotations

import asyncio
from html import escape
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode

from modelmill.errors import Unidentified
from modelmill.serve.access.caller import Caller
from modelmill.serve.access.door import COOKIE, Door, check_same_site, picked
from modelmill.serve.access.sessions import in_cookies, set_cookie
from modelmill.serve.web.http import Call, Reply

HERE = Path(__file__).parent / "signin_page"
HTML = "text/html; charset=utf-8"
SAFETY = (
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
)
FORM_BYTES = 4096
"""The largest form with a key: nobody knows yet who sends it."""
WRONG = '<p class="problem" role="alert">That key does not open this service.</p>'


def page(door: Door, call: Call) -> Reply:
    """The page: a form for a key, or for whoever is signed in, a way out. There is none where no key is needed."""
    if not door.needs_key:
        return _to("/")
    caller = _signed_in(door, call)
    if caller is not None:
        who = f"{caller.key_id} of {caller.tenant}"
        return _page("signed_in.html", {"who": who})
    asked = parse_qs(call.query.decode("latin-1"))
    problem = WRONG if "wrong" in asked else ""
    return _page("signin.html", {"next": local(asked.get("next", ["/"])[0])}, problem)


async def enter(door: Door, call: Call) -> Reply:
    """Where a person goes on after showing a key. Raises Forbidden for a form of another site, TooLarge."""
    check_same_site(picked(call.headers))
    if door.keyring is None or not door.needs_key:
        return _to("/")
    call.body_limit = min(FORM_BYTES, call.body_limit)
    form = parse_qs((await call.body()).decode("latin-1"))
    onward = local(form.get("next", ["/"])[0])
    try:
        cookie = door.keyring.sign_in(form.get("key", [""])[0].strip())
    except Unidentified:
        return _to(f"/signin?{urlencode({'wrong': 1, 'next': onward})}")
    return _to(onward, set_cookie(cookie, door.keyring.lasts_s, door.is_encrypted))


async def leave(door: Door, call: Call) -> Reply:
    """The way out: the session ends, and the browser forgets its cookie. Raises Forbidden, StorageError, Overloaded."""
    found = picked(call.headers)
    check_same_site(found)
    cookie = in_cookies(found.get(COOKIE, b"").decode("latin-1"))
    if door.keyring is not None and cookie:
        await asyncio.to_thread(door.keyring.sign_out, cookie)
    return _to("/signin", set_cookie("", 0, secure=False))


def redirect(path: str, query: bytes) -> Reply:
    """To the sign-in page, and from there back to where the person wanted to go."""
    asked = f"/{quote(path)}" + (f"?{query.decode('latin-1')}" if query else "")
    return _to(f"/signin?{urlencode({'next': asked})}")


def local(path: str) -> str:
    r"""A path of this service; `/` for anything that leads elsewhere.

    >>> local("/runs/3"), local("//elsewhere"), local("/\\elsewhere"), local("https://elsewhere")
    ('/runs/3', '/', '/', '/')
    """
    safe = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and path.isascii()
    return path if safe else "/"


def _signed_in(door: Door, call: Call) -> Caller | None:
    cookie = in_cookies(picked(call.headers).get(COOKIE, b"").decode("latin-1"))
    return door.keyring.of_session(cookie) if door.keyring is not None and cookie else None


def _page(name: str, values: dict[str, str], problem: str = "") -> Reply:
    text = (HERE / name).read_text()
    for key, value in values.items():
        text = text.replace(f"[[{key}]]", escape(value))
    return Reply(200, text.replace("[[problem]]", problem).encode(), HTML, SAFETY)


def _to(path: str, cookie: str = "") -> Reply:
    headers = (("location", path), ("cache-control", "no-store"), *((("set-cookie", cookie),) if cookie else ()))
    return Reply(303, b"", "text/plain", headers)
