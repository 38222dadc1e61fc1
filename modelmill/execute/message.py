"""What a pool says about its jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["progress", "result", "error"]

Reason = Literal["", "raised", "crashed", "time", "memory", "cancelled"]
"""Why a job has no result: it raised, its process died, it took too long, grew too large, or was called off."""


@dataclass(frozen=True, eq=False)
class Message:
    """One thing that happened to a job."""

    job: str
    kind: Kind
    value: Any = None
    """A value that the job yielded; for a result, the last one."""
    error: str = ""
    """One sentence, for an error."""
    reason: Reason = ""
    trace: str = ""
    """The traceback of a job that raised."""
    seconds: float = 0.0
    """How long the job has run, without the time in which the pool was paused."""
