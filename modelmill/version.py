"""A model in the registry: numbered, with the digests of its files and where it comes from."""

from __future__ import annotations

import msgspec

from modelmill.report import Lineage
from modelmill.signature import Signature

LIVE = "live"
"""The alias that NAME alone stands for."""


class Version(msgspec.Struct, frozen=True):
    """One published version; `files` maps each file's name to its SHA-256 and `sizes` to its bytes."""

    name: str
    number: int
    created_ms: int
    signature: Signature
    lineage: Lineage
    files: dict[str, str]
    sizes: dict[str, int]
    aliases: tuple[str, ...] = ()
    notes: str = ""

    @property
    def reference(self) -> str:
        """NAME@NUMBER."""
        return f"{self.name}@{self.number}"
