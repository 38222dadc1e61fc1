"""How a service is entered, as it is told at its start: whose keys count, over which connections, or by anyone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelmill.errors import WorkError
from modelmill.serve.access.door import Door, is_loopback
from modelmill.serve.access.keyring import Keyring
from modelmill.serve.access.meters import Meters
from modelmill.serve.access.sessions import Sessions, secret_in
from modelmill.serve.access.tls import Tls, TlsFiles
from modelmill.store.database import Database


@dataclass(frozen=True)
class Access:
    """What decides who enters; the default is whoever reaches loopback."""

    database: Database | None = None
    """Where keys and tenants are; no keys count without it."""
    folder: Path | None = None
    """The home folder, where the secret of sessions and the meters of quotas lie; in memory without it."""
    tls: TlsFiles | None = None
    insecure: bool = False
    """Whether anyone may enter from other machines while there are no keys."""

    def door(self, host: str, port: int, shared: bool = False) -> Door:
        """The door of a service at that address, with the keys as they are now.

        shared: whether several processes serve the port, and count quotas together. Raises WorkError where anyone could
        enter from another machine, and nobody said that this is wanted; StorageError.
        """
        trusting = self.insecure or is_loopback(host) or (self.tls is not None and self.tls.client_ca is not None)
        keyring = self._keyring(port, shared)
        if keyring is not None:
            keyring.refresh()
        if not trusting and (keyring is None or keyring.is_empty):
            hint = "Make a key: modelmill keys create NAME. Or let anyone in: --insecure"
            raise WorkError(f"--host {host}", "would let anyone who reaches it use the models: there are no keys", hint)
        return Door(keyring, host, trusting, Tls(self.tls) if self.tls else None)

    def _keyring(self, port: int, shared: bool) -> Keyring | None:
        if self.database is None:
            return None
        if self.folder is None:
            return Keyring(self.database)
        meters = Meters(self.folder / "meters" / f"{port}.bin", shared)
        return Keyring(self.database, meters, Sessions(secret_in(self.folder / "session.key")))


LOOPBACK = Access()
"""Without any keys."""
