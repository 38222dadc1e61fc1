"""An answer, as the log and a trace tell of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelmill.serve.signals.kinds import is_failure
from modelmill.serve.signals.trace import Parent


@dataclass(slots=True)
class Answer:
    """What was asked and answered, without any of its rows. model, version: empty where no model answered."""

    face: str
    model: str
    version: str
    code: int
    seconds: float
    id: str | None = None
    """As the client named its request."""
    parent: Parent | None = None
    """The caller's span."""
    sizes: tuple[int, int] = (0, 0)
    """The bytes of the request's body and of the answer's."""
    tenant: str = ""
    """Whose key asked."""
    over_quota: bool = False
    """Whether it was refused since whoever asked had more than was agreed."""

    @property
    def failed(self) -> bool:
        """Whether the service failed by its own fault."""
        return is_failure(self.code)

    def told(self) -> dict[str, Any]:
        """What there is to tell, by name."""
        found = {
            "face": self.face,
            "model": self.model,
            "version": self.version,
            "code": self.code,
            "milliseconds": round(1000 * self.seconds, 3),
            "id": self.id,
            "tenant": self.tenant,
            "bytes_in": self.sizes[0],
            "bytes_out": self.sizes[1],
        }
        return {name: value for name, value in found.items() if value not in ("", None)}
