"""The door of the service: who a request is from, by its headers, whichever wire it came by."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from modelmill.errors import Forbidden, MillError, NotServed, OverQuota, RequestError, TooLarge, Unidentified
from modelmill.serve.access.caller import ANYONE, INFER, Caller
from modelmill.serve.access.keyring import Keyring
from modelmill.serve.access.meters import DAY_S, SECOND, Gate
from modelmill.serve.access.needs import COUNT, STUDY
from modelmill.serve.access.sessions import in_cookies
from modelmill.serve.access.tls import Tls
from modelmill.serve.access.veil import veiled_error
from modelmill.store import audit
from modelmill.store.audit import Actor

Headers = Sequence[tuple[bytes, bytes]]

AUTHORIZATION, API_KEY, COOKIE = b"authorization", b"x-api-key", b"cookie"
HOST, ORIGIN, SITE = b"host", b"origin", b"sec-fetch-site"
LOOKED_AT = frozenset({AUTHORIZATION, API_KEY, COOKIE, HOST, ORIGIN, SITE})
HOSTS = 256
"""Values of `Host` that are remembered as good."""

CREATE = "On the machine of the service: modelmill keys create NAME"


class Door:
    """Tells who a request is from; it remembers what it found good.

    As long as there are no keys, anyone is let in where that was decided at the start (`trusting`): on loopback, where
    clients must show a certificate, or where whoever started the service said so. As soon as there is a key, every
    request needs one, except those to paths that are open to all.
    """

    def __init__(
        self, keyring: Keyring | None = None, host: str = "127.0.0.1", trusting: bool = True, tls: Tls | None = None
    ) -> None:
        self.keyring = keyring
        self.host = host
        self.trusting = trusting
        self.tls = tls
        self.local = is_loopback(host)
        """Whether only this machine reaches the service: then names of other hosts are forged."""
        self.hosts: set[bytes] = set()

    @property
    def is_encrypted(self) -> bool:
        """Whether connections are."""
        return self.tls is not None

    @property
    def needs_key(self) -> bool:
        """Whether a request must come with a key."""
        return not self.trusting or (self.keyring is not None and bool(self.keyring.keys))

    def note(self, actor: Actor, verb: str, subject: str, detail: Mapping[str, Any] | None = None) -> None:
        """Write down a change in the audit log, where there is one. Raises StorageError."""
        if self.keyring is not None:
            with self.keyring.database.writing(durable=True) as connection:
                audit.write(connection, actor, verb, subject, detail)

    def refresh(self) -> None:
        """Follow the keys of the database. Raises StorageError."""
        if self.keyring is not None:
            self.keyring.refresh()

    def known(self, headers: Headers) -> Caller | None:
        """Who a request is from, if that takes no more than a look-up; `admit` knows the rest, and has the words."""
        keyring = self.keyring
        if keyring is None or not keyring.keys:
            return self._anyone(headers) if self.trusting else None
        caller = None
        for name, value in headers:
            if name == AUTHORIZATION:
                by = keyring.bearers
            elif name == API_KEY:
                by = keyring.holders
            else:
                continue
            if caller is not None or (caller := by.get(value)) is None:
                return None
        return caller

    def _anyone(self, headers: Headers) -> Caller | None:
        if self.local:
            for name, value in headers:
                if name == HOST:
                    if value not in self.hosts and not self._is_own(value):
                        return None
                elif name == ORIGIN:
                    return None
        return ANYONE

    def admit(self, headers: Headers, changes: bool = True) -> Caller:
        """Who a request is from. `changes` is False for a request that only reads: GET and HEAD.

        Raises Unidentified without a key that opens, Forbidden for a forged Host or a request made by another site,
        RequestError for a header that comes twice.
        """
        caller = self.known(headers)
        if caller is not None:
            return caller
        found = picked(headers)
        if not self.needs_key:
            self._check_host(found.get(HOST))
            if changes:
                _check_site(found)
            return ANYONE
        if self.keyring is None or self.keyring.is_empty:
            raise Unidentified("service", "lets nobody in: there are no keys", CREATE)
        if AUTHORIZATION not in found and API_KEY not in found:
            return self._signed_in(found, changes)
        return self._holder(self.keyring, found)

    def known_by(self, metadata: Mapping[str, str]) -> Caller | None:
        """Who a call over gRPC is from, if that takes no more than a look-up; `caller_of` knows the rest."""
        keyring = self.keyring
        if keyring is None or not keyring.keys:
            return ANYONE if self.trusting else None
        bearer, key = metadata.get("authorization"), metadata.get("x-api-key")
        if bearer is not None and key is None:
            return keyring.bearers.get(_bytes(bearer))
        return keyring.holders.get(_bytes(key)) if key is not None and bearer is None else None

    def caller_of(self, metadata: Iterable[tuple[str, str | bytes]] | Mapping[str, str | bytes]) -> Caller:
        """Who a call over gRPC is from, by its metadata. Raises Unidentified."""
        pairs = metadata.items() if isinstance(metadata, Mapping) else metadata
        headers = [(_bytes(name).lower(), _bytes(value)) for name, value in pairs]
        return self.admit([pair for pair in headers if pair[0] in (AUTHORIZATION, API_KEY)])

    def _holder(self, keyring: Keyring, found: Mapping[bytes, bytes]) -> Caller:
        """Whoever holds the key in the headers, remembered for the next time."""
        if AUTHORIZATION in found and API_KEY in found:
            raise Unidentified("key", "comes both as Authorization and as X-API-Key", "Send one of them.")
        if API_KEY in found:
            header, by = found[API_KEY], keyring.holders
            key = header.decode("latin-1").strip()
        else:
            header, by = found[AUTHORIZATION], keyring.bearers
            scheme, _, key = header.decode("latin-1").strip().partition(" ")
            if scheme.lower() != "bearer":
                raise Unidentified("Authorization", f"{scheme[:20]!r} is not taken", "Send: Authorization: Bearer KEY")
        caller = keyring.caller(key.strip())
        keyring.remember(by, header, caller)
        return caller

    def _signed_in(self, found: Mapping[bytes, bytes], changes: bool) -> Caller:
        cookie = in_cookies(found.get(COOKIE, b"").decode("latin-1"))
        caller = self.keyring.of_session(cookie) if cookie and self.keyring is not None else None
        if caller is None:
            what = "is over" if cookie else "is wanted"
            hint = "Sign in again." if cookie else "Send: Authorization: Bearer KEY"
            raise Unidentified("session" if cookie else "key", what, hint)
        if changes:
            check_same_site(found)
        return caller

    def _check_host(self, host: bytes | None) -> None:
        """Refuse what a browser was led here with by a name of another's (DNS rebinding)."""
        if self.local and host is not None and not self._is_own(host):
            name = host_name(host.decode("latin-1"))
            hint = f"Call the service by the name it was given: {self.host}."
            raise Forbidden("Host", f"{name[:80]!r} is not a name of this service", hint)

    def _is_own(self, host: bytes) -> bool:
        """Whether a value of Host is a name of this service; it is remembered if so."""
        name = host_name(host.decode("latin-1"))
        own = is_loopback(name) or name == self.host
        if own and len(self.hosts) < HOSTS:
            self.hosts.add(host)
        return own


def check(caller: Caller, roles: frozenset[str]) -> None:
    """Count a request that needs any of the roles. Raises Forbidden, OverQuota."""
    check_role(caller, roles)
    check_rate(caller)


def check_rate(caller: Caller) -> None:
    """Count a request. Raises OverQuota."""
    if caller.gate is not None:
        wait = caller.gate.admit()
        if wait:
            raise used_up(caller.gate, wait)


def used_up(gate: Gate, wait: int) -> OverQuota:
    """What whoever has to wait for so many nanoseconds is told: whose quota it is, how much, and how long."""
    whose, told = gate.tightest(time.monotonic_ns())
    seconds = -(-wait // SECOND) if wait > SECOND else -(-wait * 1000 // SECOND) / 1000
    return OverQuota(whose, f"{told}: there is room for a request in {seconds:g} s", "", wait / 1e9)


def check_role(caller: Caller, roles: frozenset[str]) -> None:
    """Refuse whoever has none of the roles. Raises Forbidden."""
    if roles.isdisjoint(caller.roles):
        wanted = " or ".join(sorted(roles))
        if caller.tier.infers_only:
            message = f"is of tier {caller.tier.name}, whose keys infer and do nothing else"
            raise Forbidden("key", message, "Ask for a key of another tier.")
        has = ", ".join(sorted(caller.roles)) or "none"
        raise Forbidden("key", f"has the roles {has}, and {wanted} is wanted", "Ask for a key with that role.")


def infers(caller: Caller, name: str) -> bool:
    """Whether the caller may use that model."""
    return INFER in caller.roles and caller.sees(name)


def check_sight(caller: Caller, reference: str) -> None:
    """Refuse a model that does not exist for the caller, in the words for one that exists for nobody."""
    if not caller.sees(reference.partition("@")[0]):
        raise NotServed("model", f"{reference[:80]!r} is not served", "")


def check_breadth(caller: Caller) -> None:
    """Refuse whoever was narrowed to some models what tells of all. Raises Forbidden."""
    if caller.sight.narrowed:
        raise Forbidden("key", "is narrowed to some models, and this tells of all of them", "Use another key.")


def pages_of(caller: Caller) -> frozenset[str]:
    """Of the pages that not every key opens, `runs`, `report` and `metrics`, those that the caller may see."""
    sight = caller.sight
    wanted = {"runs": (STUDY, sight.everything), "report": (STUDY, True), "metrics": (COUNT, not sight.narrowed)}
    return frozenset(page for page, (need, sees) in wanted.items() if sees and (need is None or caller.may(need)))


def check_change(caller: Caller, name: str, is_there: bool) -> None:
    """Refuse to change a model that is not the caller's to change. Raises NotServed, Forbidden.

    is_there: whether there is such a model; of one that is not, the same is said as of another tenant's.
    """
    check_sight(caller, name)
    if caller.changes(name):
        return
    if not is_there:
        raise NotServed("model", f"{name[:80]!r} is not served", "")
    message = f"is of tenant {caller.tenant}, which does not claim {name[:80]!r}: others use that model as well"
    raise Forbidden("key", message, "Ask for a claim, or a key of the default tenant.")


def discreet(error: MillError, caller: Caller) -> MillError:
    """An error as the caller may hear it: hints for what is not served name models, which may be another's."""
    if caller.sight.everything:
        return error
    return NotServed(error.where, error.message, "") if isinstance(error, NotServed) else veiled_error(error, caller)


def check_rows(caller: Caller, rows: int) -> None:
    """Count the rows of a request. Raises TooLarge, OverQuota."""
    if rows > caller.tier.batch_rows:
        most = f"tier {caller.tier.name} takes {caller.tier.batch_rows:,} in one request"
        raise TooLarge("rows", f"are {rows:,}, and {most}", "Send fewer rows at a time.")
    if caller.gate is not None:
        now_s = time.time()
        wait = caller.gate.admit_rows(rows, now_s)
        if wait:
            raise _no_room(caller.gate, rows, now_s, wait)


def _no_room(gate: Gate, rows: int, now_s: float, wait: int) -> MillError:
    """What whoever sends more rows than are left is told; those above the quota of a whole day never fit."""
    smallest = gate.smallest_day()
    if rows > smallest.quota.rows_per_day:
        most = f"the quota of the {smallest.whose} is {smallest.quota.rows_per_day:,} a day"
        return TooLarge("rows", f"are {rows:,}, and {most}", "Send fewer rows at a time.")
    meter = gate.fewest_rows(int(now_s) // DAY_S)
    message = f"{meter.quota.rows_per_day:,} rows a day has no room for {rows:,} more rows today"
    return OverQuota(f"quota of the {meter.whose}", message, f"It is full again in {wait:,} s, at 0:00 UTC.", wait)


def check_same_site(found: Mapping[bytes, bytes]) -> None:
    """Refuse a change that no page of this service asked for, where a cookie alone speaks for the person."""
    if SITE not in found and ORIGIN not in found:
        raise Forbidden("Origin", "is wanted where a cookie signs in", "Send a key instead.")
    _check_site(found)


def _check_site(found: Mapping[bytes, bytes]) -> None:
    """Refuse a request that a page of another site made."""
    if SITE in found:
        same = found[SITE] in (b"same-origin", b"none")
    elif ORIGIN in found:
        site = _site_of(found[ORIGIN].decode("latin-1"))
        same = bool(site) and site == found.get(HOST, b"").decode("latin-1")
    else:
        return
    if not same:
        raise Forbidden("Origin", "is another site, whose pages may change nothing here", "Use a page of this service.")


def _site_of(origin: str) -> str:
    """The host and port of a value of `Origin`; empty for one that names no site.

    >>> _site_of("https://a.example:8443"), _site_of("null"), _site_of("http://[")
    ('a.example:8443', '', '')
    """
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def picked(headers: Headers) -> dict[bytes, bytes]:
    """The headers that say who a request is from. Raises RequestError for one that comes twice."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in LOOKED_AT:
            if name in found and name != COOKIE:
                raise RequestError(name.decode(), "comes twice", "Send it once.")
            found[name] = b"; ".join((found[name], value)) if name in found else value
    return found


def host_name(host: str) -> str:
    """The name in a value of `Host`, without the port.

    >>> host_name("localhost:8080"), host_name("[::1]:8080")
    ('localhost', '::1')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host.

    >>> is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1", "replace")


OPEN = Door()
"""The door of a service on loopback that has no keys."""
