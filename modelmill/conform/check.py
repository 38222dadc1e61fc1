"""One check of a server: what the specification says and where, and what is done to see whether it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from modelmill.conform.subject import Subject

Level = Literal["must", "should"]
Group = Literal["core", "extensions", "robustness"]
Verdict = Literal["holds", "deviates", "left out"]

REST = "inference_rest.md"
GRPC = "inference_grpc.md"
BINARY = "extension_binary_data.md"


class Deviation(Exception):
    """What came was not what the specification says; the words say what came."""


class LeftOut(Exception):
    """The check says nothing of this server or this model; the words say why."""


@dataclass(frozen=True)
class Check:
    """A clause and what is done to see whether it holds; `run` raises Deviation or LeftOut, or comes back."""

    id: str
    clause: str
    where: str
    run: Callable[[Subject], None]
    level: Level = "must"
    extension: str = ""
    """Only a server that lists this is held to it."""

    @property
    def group(self) -> Group:
        """Where it stands in the report."""
        first = self.id.partition(".")[0]
        return "robustness" if first == "robustness" else "extensions" if self.extension else "core"


class Outcome(msgspec.Struct, frozen=True):
    """What a check showed."""

    id: str
    group: Group
    level: Level
    clause: str
    where: str
    verdict: Verdict
    came: str = ""

    @property
    def breaks(self) -> bool:
        """Whether a server with it does not conform."""
        return self.verdict == "deviates" and self.level == "must" and self.group == "core"


def conformant(outcomes: Iterable[Outcome]) -> bool:
    """Whether all that must hold in the core does."""
    return not any(outcome.breaks for outcome in outcomes)


def wanted(holds: bool, came: str) -> None:
    """Raise Deviation with what came, unless it holds."""
    if not holds:
        raise Deviation(came)


def shown(value: Any) -> str:
    """A value in a few words.

    >>> shown({"a": 1})
    '{"a":1}'
    """
    if isinstance(value, bytes):
        text = value[:120].decode("utf-8", "replace")
    else:
        text = msgspec.json.encode(value, enc_hook=str).decode()
    text = " ".join(text.split())
    return (text if len(text) <= 100 else text[:97] + "...") or "nothing"
