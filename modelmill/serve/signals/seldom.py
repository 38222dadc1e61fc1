"""What a library says of its troubles, on standard error now and then: a collector that is gone is gone for hours."""

from __future__ import annotations

import logging
import math
import sys

EVERY_S = 300.0
"""How often anything of a library is told."""


class Seldom(logging.Handler):
    """Tells one message in a while, and how many were not told before it; it holds when that was."""

    def __init__(self, what: str) -> None:
        super().__init__(logging.WARNING)
        self.what = what
        self.told = -math.inf
        self.kept_back = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Tell a message, or count it."""
        now = record.created
        if 0 <= now - self.told < EVERY_S:
            self.kept_back += 1
            return
        more = f" ({self.kept_back} more since the last)" if self.kept_back else ""
        self.told, self.kept_back = now, 0
        try:
            said = record.getMessage()
            print(f"modelmill serve: {self.what}: {said}{more}", file=sys.stderr, flush=True)
        except Exception:  # noqa: BLE001 - as every handler: whoever logs is not to fail of it
            self.handleError(record)


def hush(logger: str, what: str) -> None:
    """Have what a library logs told now and then, by a name for what it is about."""
    library = logging.getLogger(logger)
    if not any(isinstance(handler, Seldom) for handler in library.handlers):
        library.addHandler(Seldom(what))
        library.propagate = False
