"""What a key is narrowed to and sees nothing of, since other tenants claim it."""

from __future__ import annotations

from collections.abc import Iterable

from modelmill.serve.access.caller import ADMIN, Sight
from modelmill.serve.access.keys import Key, Tenant
from modelmill.tiers import matches


def unseen(key: Key, tenants: Iterable[Tenant]) -> dict[str, list[str]]:
    """The names and patterns of a key that show it no model, and who claims what each is for.

    A pattern with brackets is not judged, nor one of which the key sees a part.
    """
    claims = {tenant.name: tenant.models for tenant in tenants}
    claimed = [pattern for models in claims.values() for pattern in models]
    sight = Sight((), claims.get(key.tenant, ()), () if ADMIN in key.roles else claimed)
    found: dict[str, list[str]] = {}
    for pattern in key.models:
        examples = _examples(pattern)
        if examples and not any(map(sight.sees, examples)):
            found[pattern] = [name for name, models in claims.items() if matches(examples[-1], models)]
    return found


def _examples(pattern: str) -> list[str]:
    """Names that a pattern is for, as different as they can be; none of one with brackets.

    >>> _examples("acme-*"), _examples("iris"), _examples("[ab]*")
    (['acme-', 'acme-0.0'], ['iris', 'iris'], [])
    """
    plain = pattern.replace("?", "0")
    return [] if "[" in pattern else [plain.replace("*", part) for part in ("", "0.0")]
