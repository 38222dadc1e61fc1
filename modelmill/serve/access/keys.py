"""Keys and tenants as the database keeps them: made, rotated, revoked and listed, each change with its audit row."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from modelmill.errors import OutOfBounds, RegistryError, UnknownName
from modelmill.serve.access import credential
from modelmill.serve.access.caller import INFER, ROLES
from modelmill.serve.access.moments import LAST_MS, to_come
from modelmill.serve.access.quota import NONE, Quota, words
from modelmill.store import audit
from modelmill.store.audit import Actor, Deed
from modelmill.store.database import Database
from modelmill.store.engine import Connection
from modelmill.tiers import ADVANCED, STANDARD, tier_of

DEFAULT_TENANT = "default"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PATTERN = re.compile(r"(?:[A-Za-z0-9*?._-]|\[!?[A-Za-z0-9._-]+\])+")
PATTERN_MOST = 128
KEY_COLUMNS = (
    "id, label, tenant, roles, models, quota, digest, before_digest, before_until_ms, "
    "created_ms, expires_ms, revoked_ms"
)


class Key(msgspec.Struct, frozen=True):
    """A key without its secret. A time of 0 is never."""

    id: str
    label: str
    tenant: str
    roles: tuple[str, ...]
    models: tuple[str, ...]
    """Names, or patterns of names, to which the key is narrowed; none of them is all."""
    quota: Quota
    digest: str
    before_digest: str
    """The digest of the key before the last rotation, which counts until `before_until_ms`."""
    before_until_ms: int
    created_ms: int
    expires_ms: int
    revoked_ms: int

    def state(self, now_ms: int) -> str:
        """`valid`, `expired` or `revoked`."""
        if self.revoked_ms:
            return "revoked"
        return "expired" if self.expires_ms and now_ms >= self.expires_ms else "valid"

    def opens(self, digest: str, now_ms: int) -> bool:
        """Whether a key of that digest is this one, or was until a rotation whose grace lasts."""
        from hmac import compare_digest

        if self.state(now_ms) != "valid":
            return False
        old = compare_digest(digest, self.before_digest) and now_ms < self.before_until_ms
        return compare_digest(digest, self.digest) or old

    def shown(self, now_ms: int) -> dict[str, Any]:
        """What may be shown of it."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        rotating = now_ms < self.before_until_ms
        hidden = ("digest", "before_digest", "before_until_ms")
        return {
            **{name: value for name, value in told.items() if name not in hidden},
            "state": self.state(now_ms),
            "old_until_ms": self.before_until_ms if rotating else 0,
        }


class Tenant(msgspec.Struct, frozen=True):
    """Who keys belong to: a tier, models of its own, and a quota over all of its keys."""

    name: str
    tier: str = STANDARD.name
    models: tuple[str, ...] = ()
    """Names, or patterns of names, that are this tenant's and exist for no other; none of them is none of its own."""
    quota: Quota = NONE
    created_ms: int = 0


class Keys:
    """The keys and tenants of a home; every change is durable, and in the audit log, when a call returns."""

    def __init__(self, database: Database, actor: Actor | None = None, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._actor = actor or audit.local()
        self._clock = clock

    @property
    def now_ms(self) -> int:
        """The present time, in milliseconds since 1970."""
        return int(self._clock() * 1000)

    def create(
        self,
        label: str,
        roles: Sequence[str] = (INFER,),
        tenant: str = DEFAULT_TENANT,
        models: Sequence[str] = (),
        quota: Quota = NONE,
        expires_ms: int = 0,
    ) -> tuple[str, Key]:
        """A new key, to be shown once, and what is kept of it. Raises UnknownName, OutOfBounds."""
        named("label", label)
        named("tenant", tenant)
        roles = _roles(roles)
        if expires_ms:
            to_come("--expires", expires_ms, self.now_ms)
        with self._database.writing(durable=True) as connection:
            known = tenants(connection)
            if tenant not in known:
                hint = f"Make it first: modelmill keys tenant {tenant} --tier standard"
                raise RegistryError("--tenant", f"there is no tenant {tenant}", hint)
            _check_use(roles, known[tenant])
            key_id = credential.fresh_id()
            secret = credential.fresh(key_id)
            key = Key(
                key_id,
                label,
                tenant,
                roles,
                _patterns(models),
                quota,
                credential.digest(secret),
                "",
                0,
                self.now_ms,
                expires_ms,
                0,
            )
            _insert(connection, key)
            self._note(connection, "keys.create", key_id, _told(key))
        return secret, key

    def change(
        self,
        id: str,
        roles: Sequence[str] | None = None,
        models: Sequence[str] | None = None,
        quota: Quota | None = None,
        expires_ms: int | None = None,
    ) -> Key:
        """The key, changed where something is given; its secret stays. Raises UnknownName, OutOfBounds, RegistryError.

        quota: over the one before, part by part; NONE is as much as one likes. expires_ms: 0 is never.
        """
        given: dict[str, Any] = {
            **({} if roles is None else {"roles": _roles(roles)}),
            **({} if models is None else {"models": _patterns(models)}),
            **({} if expires_ms is None else {"expires_ms": expires_ms}),
        }
        if expires_ms:
            to_come("--expires", expires_ms, self.now_ms)
        with self._database.writing(durable=True) as connection:
            before = _valid(connection, id, self.now_ms)
            if roles is not None:
                _check_use(given["roles"], tenants(connection)[before.tenant])
            if quota is not None:
                given["quota"] = quota.over(before.quota) if quota != NONE else NONE
            key: Key = msgspec.structs.replace(before, **given)
            if key != before:
                _replace(connection, key)
                self._note(connection, "keys.change", id, _told(key))
        return key

    def rotate(self, id: str, grace_s: float = 86_400.0) -> tuple[str, Key]:
        """A new secret for a key, to be shown once; the one before it counts for `grace_s` more. Raises OutOfBounds."""
        if not 0 <= grace_s * 1000 <= LAST_MS - self.now_ms:
            raise OutOfBounds("--grace", "does not end before the year 10000", "Write --grace 24h, or 0s for none.")
        with self._database.writing(durable=True) as connection:
            old = _valid(connection, id, self.now_ms)
            secret = credential.fresh(id)
            until = self.now_ms + int(grace_s * 1000)
            key = msgspec.structs.replace(
                old, digest=credential.digest(secret), before_digest=old.digest, before_until_ms=until
            )
            _replace(connection, key)
            self._note(connection, "keys.rotate", id, {"old_until_ms": until})
        return secret, key

    def revoke(self, id: str) -> Key:
        """The key, which opens nothing from now on; nothing happens the second time."""
        with self._database.writing(durable=True) as connection:
            key = _key(connection, id)
            if not key.revoked_ms:
                key = msgspec.structs.replace(key, revoked_ms=self.now_ms)
                _replace(connection, key)
                self._note(connection, "keys.revoke", id)
        return key

    def delete(self, id: str) -> Key:
        """Forget a key that opens nothing any more; when the last one is gone, none is needed."""
        with self._database.writing(durable=True) as connection:
            key = _key(connection, id)
            if key.state(self.now_ms) == "valid":
                raise RegistryError(f"key {id}", "is valid", f"Revoke it first: modelmill keys revoke {id}")
            connection.execute("DELETE FROM keys WHERE id = :id", {"id": id})
            self._note(connection, "keys.delete", id)
        return key

    def tenant(
        self,
        name: str,
        tier: str | None = None,
        models: Sequence[str] | None = None,
        quota: Quota | None = None,
    ) -> Tenant:
        """The tenant of a name, made or changed where something is given. Raises UnknownName, RegistryError."""
        named("tenant", name)
        given: dict[str, Any] = {
            **({} if tier is None else {"tier": tier_of(tier).name}),
            **({} if models is None else {"models": _patterns(models)}),
            **({} if quota is None else {"quota": quota}),
        }
        with self._database.writing(durable=True) as connection:
            known = tenants(connection)
            if not given:
                if name not in known:
                    hint = f"Make it: modelmill keys tenant {name} --tier standard"
                    raise RegistryError("tenant", f"there is no tenant {name}", hint)
                return known[name]
            before = known.get(name, Tenant(name, created_ms=self.now_ms))
            if quota is not None and quota != NONE:
                given["quota"] = quota.over(before.quota)
            tenant: Tenant = msgspec.structs.replace(before, **given)
            _put_tenant(connection, tenant)
            self._note(connection, "keys.tenant", name, _told(tenant))
        return tenant

    def delete_tenant(self, name: str) -> Tenant:
        """Forget a tenant that has no keys and claims no models. Raises RegistryError."""
        with self._database.writing(durable=True) as connection:
            known = _tenants(connection)
            if name == DEFAULT_TENANT:
                raise RegistryError(f"tenant {name}", "is always there", "Its keys need not be made for a tenant.")
            if name not in known:
                raise RegistryError("tenant", f"there is no tenant {name[:80]}", "See them: modelmill keys tenants")
            if known[name].models:
                message = f"claims {', '.join(known[name].models)}, which would be everyone's"
                raise RegistryError(f"tenant {name}", message, f"First: modelmill keys tenant {name} --no-models")
            held = [key.id for key in keys(connection) if key.tenant == name]
            if held:
                hint = "Revoke and delete them first: modelmill keys revoke ID"
                raise RegistryError(f"tenant {name}", f"has the keys {', '.join(held[:12])}", hint)
            connection.execute("DELETE FROM tenants WHERE name = :name", {"name": name})
            self._note(connection, "keys.delete_tenant", name)
        return known[name]

    def listed(self) -> list[Key]:
        """All keys, oldest first."""
        with self._database.reading() as connection:
            return keys(connection)

    def tenants(self) -> list[Tenant]:
        """All tenants, by name."""
        with self._database.reading() as connection:
            return [tenant for _, tenant in sorted(tenants(connection).items())]

    def audit(self, since: int | None = None, most: int = 1000) -> list[Deed]:
        """The first `most` rows of the audit log after `since`, or the newest ones; oldest first."""
        with self._database.reading() as connection:
            return audit.read(connection, since, most)

    def verify(self, known: str = "") -> tuple[list[str], str]:
        """What is wrong with the audit log, and the digest of its newest row."""
        with self._database.reading() as connection:
            return audit.verify(connection, known), audit.head(connection)

    def _note(self, connection: Connection, verb: str, subject: str, detail: dict[str, Any] | None = None) -> None:
        audit.write(connection, self._actor, verb, subject, detail)
        connection.execute("UPDATE access_stamp SET changes = changes + 1")


def keys(connection: Connection) -> list[Key]:
    """All keys, oldest first."""
    return [_read(row) for row in connection.rows(f"SELECT {KEY_COLUMNS} FROM keys ORDER BY created_ms, id")]


def tenants(connection: Connection) -> dict[str, Tenant]:
    """All tenants by name, with the default one, which need not be made."""
    return {DEFAULT_TENANT: Tenant(DEFAULT_TENANT, ADVANCED.name), **_tenants(connection)}


def stamp(connection: Connection) -> int:
    """A number that grows with every change of keys and tenants."""
    row = connection.row("SELECT changes FROM access_stamp")
    return int(row[0]) if row else 0


def named(what: str, name: str) -> str:
    """A name that may stand in a log; raises OutOfBounds for any other."""
    if not NAME.fullmatch(name):
        hint = "Use letters, digits, '.', '_' and '-', 64 at most."
        raise OutOfBounds(what, f"{name[:80]!r} is not a name", hint)
    return name


def _told(value: Key | Tenant) -> dict[str, Any]:
    """What the audit log says of a key or a tenant that was made or changed."""
    plain = msgspec.structs.asdict(value)
    names = ("label", "tenant", "tier", "roles", "models", "expires_ms")
    return {**{name: plain[name] for name in names if plain.get(name)}, "quota": words(value.quota)}


def _patterns(models: Sequence[str]) -> tuple[str, ...]:
    for model in models:
        if len(model) > PATTERN_MOST or not PATTERN.fullmatch(model):
            hint = "Write --model NAME, or a pattern such as 'acme-*' or '[ab]*', without a version."
            raise OutOfBounds(f"--model {model[:80]}", "is no name of a model, nor a pattern", hint)
    return tuple(dict.fromkeys(models))


def _roles(roles: Sequence[str]) -> tuple[str, ...]:
    for role in roles:
        if role not in ROLES:
            raise UnknownName.among("--role", "role", role, ROLES)
    return tuple(dict.fromkeys(roles))


def _check_use(roles: Sequence[str], tenant: Tenant) -> None:
    """Refuse roles that a tenant's tier makes nothing of. Raises OutOfBounds."""
    idle = [role for role in roles if role != INFER]
    if idle and tier_of(tenant.tier).infers_only:
        message = f"is of no use: tenant {tenant.name} is of tier {tenant.tier}, whose keys infer and do nothing else"
        hint = f"Leave it out, or change the tier: modelmill keys tenant {tenant.name} --tier {STANDARD.name}"
        raise OutOfBounds(f"--role {idle[0]}", message, hint)


def _tenants(connection: Connection) -> dict[str, Tenant]:
    rows = connection.rows("SELECT name, tier, models, quota, created_ms FROM tenants ORDER BY name")
    return {
        name: Tenant(
            name,
            tier,
            msgspec.json.decode(models, type=tuple[str, ...]),
            msgspec.json.decode(quota, type=Quota),
            created_ms,
        )
        for name, tier, models, quota, created_ms in rows
    }


def _key(connection: Connection, id: str) -> Key:
    row = connection.row(f"SELECT {KEY_COLUMNS} FROM keys WHERE id = :id", {"id": id})
    if row is None:
        known = [found for (found,) in connection.rows("SELECT id FROM keys ORDER BY created_ms")]
        hint = f"There are {', '.join(known[:12])}." if known else "There are none: modelmill keys create NAME"
        raise RegistryError("keys", f"there is no key {id[:80]}", hint)
    return _read(row)


def _valid(connection: Connection, id: str, now_ms: int) -> Key:
    """The key of an id. Raises RegistryError where it opens nothing any more, too."""
    key = _key(connection, id)
    state = key.state(now_ms)
    if state != "valid":
        raise RegistryError(f"key {id}", f"is {state}, and stays so", "Make a new one: modelmill keys create")
    return key


def _read(row: Sequence[Any]) -> Key:
    named = dict(zip(KEY_COLUMNS.split(", "), row, strict=True))
    structured = {name: msgspec.json.decode(named[name]) for name in ("roles", "models", "quota")}
    return msgspec.convert({**named, **structured}, Key)


def _row(key: Key) -> dict[str, Any]:
    plain = msgspec.structs.asdict(key)
    return {**plain, **{name: msgspec.json.encode(plain[name]).decode() for name in ("roles", "models", "quota")}}


def _insert(connection: Connection, key: Key) -> None:
    row = _row(key)
    connection.execute(f"INSERT INTO keys ({KEY_COLUMNS}) VALUES ({', '.join(f':{name}' for name in row)})", row)


def _replace(connection: Connection, key: Key) -> None:
    row = _row(key)
    connection.execute(f"UPDATE keys SET {', '.join(f'{name} = :{name}' for name in row)} WHERE id = :id", row)


def _put_tenant(connection: Connection, tenant: Tenant) -> None:
    plain = msgspec.structs.asdict(tenant)
    row = {**plain, **{name: msgspec.json.encode(plain[name]).decode() for name in ("models", "quota")}}
    connection.execute("DELETE FROM tenants WHERE name = :name", {"name": tenant.name})
    names = ", ".join(f":{name}" for name in row)
    connection.execute(f"INSERT INTO tenants (name, tier, models, quota, created_ms) VALUES ({names})", row)
