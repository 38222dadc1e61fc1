"""What a process of the service is doing right now, as figures."""

from __future__ import annotations

from modelmill.serve.plane import Plane
from modelmill.serve.signals.figures import Figures

MEANINGS = {
    "modelmill_models_loaded": "Versions in memory.",
    "modelmill_models_served": "Models that are served.",
    "modelmill_queue_requests": "Requests that wait for the engine.",
    "modelmill_runs_in_progress": "Runs on the engine's threads.",
    "modelmill_requests_in_flight": "Requests that are being answered.",
    "modelmill_ready": "Processes to which requests should be sent.",
}
"""Over several processes, the sum; but for the models that are served, which are the same in all."""


def write(figures: Figures, plane: Plane, first: bool = True) -> None:
    """Write down what is now. first: of several processes one, which counts what is the same in all."""
    for name, value in (
        ("modelmill_models_loaded", plane.catalogue.loaded),
        ("modelmill_models_served", len(plane.catalogue.known.numbers) if first else 0),
        ("modelmill_queue_requests", plane.engine.waiting),
        ("modelmill_runs_in_progress", plane.engine.running),
        ("modelmill_requests_in_flight", plane.state.in_flight),
        ("modelmill_ready", int(plane.state.ready and not plane.state.draining)),
    ):
        figures.gauge(name, value)
    held = tuple(plane.catalogue.residents.held.values())
    figures.pending({(at.name, at.label): at.lane.waiting for at in held if at.lane.waiting})
