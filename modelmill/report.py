"""What a build found out: quality, costs, limits and lineage, with the keys of `report.json`."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

SplitName = Literal["train", "validation", "test"]


class Value(msgspec.Struct, frozen=True):
    """A metric on a split, with its 95 % interval."""

    value: float
    split: SplitName = "test"
    interval: tuple[float, float] | None = None


class Data(msgspec.Struct, frozen=True):
    """The data in three figures."""

    digest: str
    rows: int
    features: int


class Limit(msgspec.Struct, frozen=True):
    """A limit, what came out, and whether it is kept."""

    limit: float
    value: float
    kept: bool


class Baseline(msgspec.Struct, frozen=True):
    """The same model uncompressed."""

    metrics: dict[str, Value]
    costs: dict[str, float | None]


class Counts(msgspec.Struct, frozen=True):
    """How the trials ended."""

    done: int = 0
    stopped: int = 0
    failed: int = 0


class Lineage(msgspec.Struct, frozen=True):
    """Where a version comes from: digests, and the versions of the tools."""

    model: str = ""
    data: str = ""
    spec: str = ""
    parent: str | None = None
    tools: dict[str, str] = {}
    source: str | msgspec.UnsetType = msgspec.UNSET
    """The digest of the file that a version was imported from; left out of the JSON of all others."""


class Report(msgspec.Struct, frozen=True):
    """The JSON of a build; keys beyond the contract are in `details`."""

    name: str
    version: int
    live: bool
    task: str
    data: Data
    metrics: dict[str, Value]
    costs: dict[str, float | None]
    baseline: Baseline
    limits: dict[str, Limit]
    pareto: list[dict[str, Any]]
    trials: Counts
    seconds: float
    spec: dict[str, Any]
    lineage: Lineage
    details: dict[str, Any] = {}
    """What the HTML report shows beside: findings, trials, curves, confusion, importance, words."""
