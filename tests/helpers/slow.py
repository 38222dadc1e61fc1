"""A served model that runs when a test lets it."""

from __future__ import annotations

import threading

from modelmill.errors import ModelError
from modelmill.serve.engine.engine import Pace


class Slow:
    """Wraps a session, and holds every run until its gate is open, or the run is stopped."""

    def __init__(self, session):
        self.session = session
        self.gate = threading.Event()
        self.started = threading.Event()
        self.fails = False

    def run(self, columns, outputs=None, stop=None):
        self.started.set()
        while not self.gate.wait(0.002):
            if stop is not None and stop.said:
                raise ModelError("run", "was stopped", "")
        if self.fails:
            raise ModelError("run", "the model broke", "")
        return self.session.run(columns, outputs, stop)


def slowed(service, name="flowers"):
    """Make a served model slow: its runs leave the loop, and wait."""
    lane = service.server.catalogue.present(name).lane
    lane.session = Slow(lane.session)
    lane.pace = Pace(10.0, 1.0)
    return lane.session
