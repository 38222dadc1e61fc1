"""The same caller is answered by the same version."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from modelmill.contracts import Labels, Router
from modelmill.serve.traffic.place import By, place


class Sticky(Router):
    """Send a percentage of callers to the candidate: each caller always to the same version.

    A request that does not say who calls is answered by the version of NAME.

    >>> sticky = Sticky(candidate="2", percent=50, by="header:x-user")
    >>> {sticky("ann", {"1": 1, "2": 2, "live": 1}) for _ in range(5)}
    {1}
    >>> sticky("", {"1": 1, "2": 2, "live": 1})
    1
    """

    candidate: str
    """The number or alias of the version that is tried."""
    percent: Annotated[float, Meta(ge=0, le=100)] = 5.0
    """How many callers in a hundred it answers."""
    by: By = "tenant"
    """What tells callers apart: `tenant`, `key`, `header:NAME` or `cookie:NAME`."""
    salt: str = ""
    """Other callers are drawn with another salt."""

    @property
    def key(self) -> str:
        """What tells callers apart."""
        return self.by

    @property
    def keeps(self) -> tuple[str, ...]:
        """The candidate."""
        return (self.candidate,)

    def __call__(self, id: str, versions: Labels) -> int:
        """The candidate for callers in the first part of the line, the version of NAME for the rest."""
        if id and self.candidate in versions and place(id, self.salt) * 100 < self.percent:
            return versions[self.candidate]
        return versions["live"]
