"""All requests go to one of two versions, and the switch between them takes no time."""

from __future__ import annotations

from typing import Literal

from modelmill.contracts import Labels, Router


class BlueGreen(Router):
    """Answer every request with the blue version or with the green one; both stay loaded, so that switching is instant.

    >>> BlueGreen(blue="1", green="2", active="green")("any", {"1": 1, "2": 2, "live": 1})
    2
    """

    blue: str
    """The number or alias of one version."""
    green: str
    """The number or alias of the other."""
    active: Literal["blue", "green"] = "blue"
    """Which of them answers."""

    @property
    def keeps(self) -> tuple[str, ...]:
        """Both versions."""
        return (self.blue, self.green)

    def __call__(self, id: str, versions: Labels) -> int:
        """The active version; the version of NAME where it is gone."""
        return versions.get(self.blue if self.active == "blue" else self.green, versions["live"])
