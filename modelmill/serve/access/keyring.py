"""The keys of a running service, in memory: it follows the database, and tells who holds a key."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace as replaced

from modelmill.errors import Unidentified
from modelmill.serve.access import credential, ended, keys
from modelmill.serve.access.caller import ADMIN, EVERY_ROLE, INFER, Caller, Sight, Tenancy
from modelmill.serve.access.keys import Key, Tenant
from modelmill.serve.access.meters import Gate, Meters
from modelmill.serve.access.sessions import LASTS_S, Sessions
from modelmill.serve.engine.terms import Terms
from modelmill.store.database import Database
from modelmill.tiers import matches, tier_of

REMEMBERED = 10_000
"""Spellings of keys whose holders are remembered."""


class Keyring:
    """Who holds which key. What changes in the database holds after the next `refresh`, what is due by the clock too.

    `bearers` and `holders` remember the headers of keys that were found good, so that a request costs one look-up; they
    are emptied whenever anything changes.
    """

    def __init__(
        self,
        database: Database,
        meters: Meters | None = None,
        sessions: Sessions | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database = database
        self.meters = meters or Meters()
        self.sessions = sessions
        self.clock = clock
        self.stamp = -1
        self.keys: tuple[Key, ...] = ()
        self.tenants: dict[str, Tenant] = {}
        self.tenancies: dict[str, Tenancy] = {}
        self.ended: frozenset[str] = frozenset()
        """Marks of sessions that were ended before their time."""
        self.following = threading.Lock()
        """Held while what is here is made what the database has."""
        self.callers: dict[str, tuple[Key, Caller]] = {}
        self.due_ms = 0
        self.bearers: dict[bytes, Caller] = {}
        """By the value of `Authorization`."""
        self.holders: dict[bytes, Caller] = {}
        """By the value of `X-API-Key`."""

    @property
    def is_empty(self) -> bool:
        """Whether there is no key at all. Keys that expired or were revoked still keep the service closed."""
        return not self.keys

    @property
    def lasts_s(self) -> int:
        """How long a person stays signed in."""
        return self.sessions.lasts_s if self.sessions else LASTS_S

    def refresh(self) -> bool:
        """Follow database and clock; whether anything changed. Raises StorageError, and then keeps time only."""
        with self.following:
            return self._follow(int(self.clock() * 1000))

    def _follow(self, now_ms: int) -> bool:
        try:
            with self.database.reading() as connection:
                stamp = keys.stamp(connection)
                if stamp != self.stamp:
                    found, tenants, over = keys.keys(connection), keys.tenants(connection), ended.ended(connection)
        except BaseException:
            if self.due_ms and now_ms >= self.due_ms:
                self._arrange(now_ms)
            raise
        if stamp != self.stamp:
            self.keys, self.tenants, self.ended, self.stamp = tuple(found), tenants, over, stamp
        elif not self.due_ms or now_ms < self.due_ms:
            return False
        self._arrange(now_ms)
        return True

    def caller(self, key: str) -> Caller:
        """Who holds a key. Raises Unidentified."""
        now_ms = int(self.clock() * 1000)
        found, caller = self.callers.get(credential.id_of(key) or "", (None, None))
        if found is None or caller is None:
            raise Unidentified("key", "is not one that is known here", "Ask whoever runs the service for one.")
        digest = credential.digest(key)
        if found.opens(digest, now_ms):
            return caller
        state = found.state(now_ms)
        told = state if state != "valid" and found.digest == digest else "not one that is known here"
        raise Unidentified("key", f"is {told}", "Ask whoever runs the service for one.")

    def remember(self, by: dict[bytes, Caller], header: bytes, caller: Caller) -> None:
        """Let a header that was found good be a look-up the next time."""
        if len(by) >= REMEMBERED:
            by.clear()
        by[header] = caller

    def sign_in(self, key: str) -> str:
        """The cookie of whoever shows a key. Raises Unidentified."""
        if self.sessions is None:
            raise Unidentified("session", "is not kept by this service", "Send the key with every request.")
        caller = self.caller(key)
        return self.sessions.cookie(caller.key_id, credential.digest(key), self.clock())

    def of_session(self, cookie: str) -> Caller | None:
        """Whoever has signed in, as long as the session and the key last."""
        if self.sessions is None:
            return None
        now_s = self.clock()
        session = self.sessions.read(cookie, now_s)
        if session is None or session.mark in self.ended or session.key_id not in self.callers:
            return None
        key, caller = self.callers[session.key_id]
        if key.state(int(now_s * 1000)) != "valid":
            return None
        current = [key.digest] if now_s * 1000 >= key.before_until_ms else [key.digest, key.before_digest]
        return caller if any(self.sessions.holds(session, digest) for digest in current) else None

    def sign_out(self, cookie: str) -> None:
        """End a session, of all services that share the database; nothing happens for what is none.

        Raises StorageError, Overloaded.
        """
        now_s = self.clock()
        session = self.sessions.read(cookie, now_s) if self.sessions is not None else None
        if session is None or self.of_session(cookie) is None:
            return
        with self.following:
            with self.database.writing(durable=True) as connection:
                ended.end(connection, session.mark, session.key_id, session.until_s, now_s)
            self.ended |= {session.mark}

    def memory(self, name: str) -> dict[str, int]:
        """The tenants that have a model for their own, and how many bytes of memory the models of each may take."""
        owners = [tenant for tenant in self.tenants.values() if matches(name, tenant.models)]
        return {tenant.name: tier_of(tenant.tier).memory_bytes for tenant in owners}

    def _arrange(self, now_ms: int) -> None:
        """Make the callers anew, and forget who was remembered."""
        claimed = tuple(dict.fromkeys(pattern for tenant in self.tenants.values() for pattern in tenant.models))
        self.callers = {key.id: (key, self._caller(key, claimed)) for key in self.keys}
        times = [time for key in self.keys for time in (key.expires_ms, key.before_until_ms) if time > now_ms]
        self.due_ms = min(times, default=0)
        self.bearers.clear()
        self.holders.clear()

    def _caller(self, key: Key, claimed: Sequence[str]) -> Caller:
        tenant = self.tenants.get(key.tenant, Tenant(key.tenant))
        tier = tier_of(tenant.tier)
        roles = EVERY_ROLE if ADMIN in key.roles else frozenset(key.roles)
        if tier.infers_only:
            roles &= {INFER}
        keeps = ADMIN in roles or tenant.name == keys.DEFAULT_TENANT
        caller = Caller(
            key.id,
            tenant.name,
            tier,
            roles,
            Terms(payer=tenant.name, share=tier.share),
            Sight(key.models, tenant.models, () if ADMIN in roles else claimed, keeps),
            tenancy=self.tenancies.setdefault(tenant.name, Tenancy()),
        )
        gate = self._gate(key, tenant)
        return replaced(caller, gate=gate) if gate else caller

    def _gate(self, key: Key, tenant: Tenant) -> Gate | None:
        limited = [
            self.meters.meter(name, quota)
            for name, quota in ((f"key:{key.id}", key.quota), (f"tenant:{tenant.name}", tenant.quota))
            if quota.requests_per_s or quota.rows_per_day
        ]
        return Gate(self.meters, limited) if limited else None
