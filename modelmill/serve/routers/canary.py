"""A few requests in a hundred go to the candidate."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from modelmill.contracts import Labels, Router
from modelmill.serve.traffic.place import place


class Canary(Router):
    """Send a percentage of requests to the candidate, drawn by the request's id.

    A request that is sent again with its `x-request-id` goes where it went; without one it is drawn anew. What went to
    the candidate at 5 % goes there at 25 %, too.

    >>> canary = Canary(candidate="2", percent=25)
    >>> picks = [canary(str(n), {"1": 1, "2": 2, "live": 1}) for n in range(1000)]
    >>> picks.count(2)
    227
    """

    candidate: str
    """The number or alias of the version that is tried."""
    percent: Annotated[float, Meta(ge=0, le=100)] = 5.0
    """How many requests in a hundred it answers."""
    salt: str = ""
    """Other requests are drawn with another salt."""

    @property
    def keeps(self) -> tuple[str, ...]:
        """The candidate."""
        return (self.candidate,)

    def __call__(self, id: str, versions: Labels) -> int:
        """The candidate for ids in the first part of the line, the version of NAME for the rest."""
        if self.candidate in versions and place(id, self.salt) * 100 < self.percent:
            return versions[self.candidate]
        return versions["live"]
