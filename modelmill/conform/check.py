"""One check of a server: what the specification says and where, and what is done to see whether it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import msgspec

from modelmill.conform.subject import Subject

Level = Literal["must", "should"]
Group = Literal["core", "extensions", "robustness"]
Verdict = Literal["holds", "deviates", "left out"]

REST = "inference_rest.md"
GRPC = "inference_grpc.md"
BINARY = "extension_binary_data.md"


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
        return self.verdict == "deviates" and self.level == "must" and self.group != "robustness"


INFERENCE = ("core.infer", "core.grpc.infer")


def conformant(outcomes: Iterable[Outcome]) -> bool | None:
    """Whether all holds that must hold in the core, and in the extensions that the server says it has.

    None where it is not known: nothing deviates, and no inference could be looked at.
    """
    listed = list(outcomes)
    if any(outcome.breaks for outcome in listed):
        return False
    asked = [outcome for outcome in listed if outcome.id.startswith(INFERENCE) and outcome.verdict != "left out"]
    return True if asked else None
