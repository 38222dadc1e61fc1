"""The request says which version is to answer."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from modelmill.contracts import Labels, Router
from modelmill.errors import NotServed


class Header(Router):
    """Answer with the version that a header of the request names, by number or alias.

    A request without the header is answered by the version of NAME; one that names what does not exist is refused.

    >>> header = Header()
    >>> header("canary", {"1": 1, "2": 2, "live": 1, "canary": 2}), header("", {"1": 1, "live": 1})
    (2, 1)
    """

    header: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9-]{1,60}$", description="the name of a header: letters, digits and hyphens")
    ] = "modelmill-use"
    """The header's name."""

    @property
    def key(self) -> str:
        """The header."""
        return f"header:{self.header}"

    def __call__(self, id: str, versions: Labels) -> int:
        """The version that is named. Raises NotServed where there is none of that number or alias."""
        if not id:
            return versions["live"]
        if id not in versions:
            hint = f"There are {', '.join(list(versions)[:12])}."
            raise NotServed(self.header, f"no version is {id[:80]!r}", hint)
        return versions[id]
