"""The candidate is asked what the live version is asked, and nobody sees its answers."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from modelmill.contracts import Labels, Router
from modelmill.serve.traffic.place import place


class Shadow(Router):
    """Answer with the version of NAME, and send copies of requests to the candidate, whose answers are compared.

    Copies never delay or fail a request: they run after it, when there is time, and are dropped under load.

    >>> shadow = Shadow(candidate="2")
    >>> shadow("any", {"1": 1, "2": 2, "live": 1}), shadow.mirror("any", {"1": 1, "2": 2, "live": 1})
    (1, 2)
    """

    candidate: str
    """The number or alias of the version that is tried."""
    percent: Annotated[float, Meta(ge=0, le=100)] = 100.0
    """How many requests in a hundred are copied."""

    @property
    def keeps(self) -> tuple[str, ...]:
        """The candidate."""
        return (self.candidate,)

    def __call__(self, id: str, versions: Labels) -> int:
        """The version of NAME."""
        return versions["live"]

    def mirror(self, id: str, versions: Labels) -> int | None:
        """The candidate, for as many requests as are to be copied."""
        return versions.get(self.candidate) if place(id, "mirror") * 100 < self.percent else None
