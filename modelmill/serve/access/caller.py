"""Who sends a request, as far as the service cares: a tenant, its tier, what it may do, and which models it sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from modelmill.serve.access.meters import Gate
from modelmill.serve.engine.terms import DEFAULT_TERMS, Terms
from modelmill.store.audit import Actor
from modelmill.tiers import ADVANCED, Tier, matches

INFER, READ, WATCH, OPERATE, ADMIN = "infer", "read", "watch", "operate", "admin"

ROLES = {
    INFER: "use models, and see what they take and give",
    READ: "read the registry, reports and searches",
    WATCH: "read the service's figures: metrics and status",
    OPERATE: "load, unload, promote and roll back models, and run rollouts",
    ADMIN: "all of these for every tenant's models, and the audit log",
}
"""What a key may be good for."""

EVERY_ROLE = frozenset(ROLES)

SEEN = 1024
"""Names whose visibility is remembered."""


class Sight:
    """Which models a key sees, and which of them it may change; it remembers what it decided.

    A model whose name a tenant claims is that tenant's alone (or of all tenants that claim it); any other is
    everyone's, and only whoever `keeps` the models of all changes it. A key may be narrowed further, to names that it
    lists.

    >>> sight = Sight(narrowed=(), own=("acme-*",), claimed=("acme-*", "blue"), keeps=False)
    >>> sight.sees("acme-risk"), sight.sees("blue"), sight.sees("iris")
    (True, False, True)
    >>> sight.changes("acme-risk"), sight.changes("iris")
    (True, False)
    """

    __slots__ = ("claimed", "everything", "keeps", "known", "narrowed", "own")

    def __init__(self, narrowed: Sequence[str], own: Sequence[str], claimed: Sequence[str], keeps: bool = True) -> None:
        self.narrowed = tuple(narrowed)
        self.own = tuple(own)
        self.claimed = tuple(claimed)
        self.keeps = keeps
        self.everything = not narrowed and set(claimed) <= set(own)
        self.known: dict[str, bool] = {}

    def sees(self, name: str) -> bool:
        """Whether the model of that name exists for the key."""
        if self.everything:
            return True
        seen = self.known.get(name)
        if seen is None:
            if len(self.known) >= SEEN:
                self.known.clear()
            seen = self.known[name] = self._decide(name)
        return seen

    def changes(self, name: str) -> bool:
        """Whether the key may change the model of that name, if its role lets it change any."""
        return self.sees(name) and (self.keeps or matches(name, self.own))

    def _decide(self, name: str) -> bool:
        if self.narrowed and not matches(name, self.narrowed):
            return False
        return matches(name, self.own) or not matches(name, self.claimed)


ALL = Sight((), (), ())


@dataclass(slots=True, eq=False)
class Tenancy:
    """What a tenant has in the service right now; it changes, and all of the tenant's keys share it."""

    waiting: int = 0
    """Requests that wait for the engine."""


@dataclass(frozen=True, slots=True, eq=False)
class Caller:
    """Whoever holds a key; made when keys are read, so that a request costs a look-up."""

    key_id: str
    """Empty where no key is needed."""
    tenant: str
    tier: Tier
    roles: frozenset[str]
    terms: Terms
    sight: Sight = ALL
    gate: Gate | None = None
    """The quotas; None without any."""
    tenancy: Tenancy = field(default_factory=Tenancy)

    def may(self, roles: frozenset[str]) -> bool:
        """Whether any of the roles is among the caller's."""
        return not roles.isdisjoint(self.roles)

    def sees(self, name: str) -> bool:
        """Whether the model of that name exists for the caller."""
        return self.sight.sees(name)

    def changes(self, name: str) -> bool:
        """Whether the caller may change the model of that name, if a role lets them change any."""
        return self.sight.changes(name)

    def actor(self, origin: str) -> Actor:
        """The caller in the audit log."""
        return Actor(f"key:{self.key_id}" if self.key_id else "anyone", self.tenant, origin)


ANYONE = Caller("", "", ADVANCED, EVERY_ROLE, DEFAULT_TERMS)
"""Whoever asks a service that needs no keys."""
