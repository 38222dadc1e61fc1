"""What the versions of a tenant's models may take of the store."""

from __future__ import annotations

import msgspec

from modelmill.errors import RegistryError
from modelmill.store.engine import Connection
from modelmill.tiers import matches, tier_of


def check(connection: Connection, name: str, size_bytes: int) -> None:
    """Refuse a version with files of so many bytes, where an owner of its name would have more than its tier allows.

    Called in the transaction that publishes it, so that two publishers at a time both count. Raises RegistryError.
    """
    for tenant, tier, patterns in connection.rows("SELECT name, tier, models FROM tenants ORDER BY name"):
        own = msgspec.json.decode(patterns, type=list[str])
        if not matches(name, own):
            continue
        sizes = connection.rows("SELECT name, SUM(size) FROM files GROUP BY name")
        used = sum(int(size) for other, size in sizes if matches(other, own))
        most = tier_of(tier).storage_bytes
        if used + size_bytes > most:
            came = f"{size_bytes / 1e6:,.1f} MB more than the {used / 1e6:,.1f} MB that models of tenant {tenant} have"
            hint = f"Delete versions (modelmill models delete), or: modelmill keys tenant {tenant} --tier NAME"
            raise RegistryError(name, f"{came} are above the {most / 1e6:,.0f} MB of tier {tier}", hint)
