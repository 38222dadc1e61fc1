"""The service's own figures, as Prometheus reads them: counters, histograms and gauges in the text format."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)
Labels = tuple[tuple[str, str], ...]


class Histogram:
    """Counts of values below bounds; it grows with every value."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value in the first bucket whose bound is not below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str, labels: Labels) -> list[str]:
        """The cumulative buckets, the sum and the count."""
        lines: list[str] = []
        total = 0
        for bound, count in zip((*(f"{bound:g}" for bound in self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            lines.append(sample(f"{name}_bucket", (*labels, ("le", bound)), total))
        return [*lines, sample(f"{name}_sum", labels, self.sum), sample(f"{name}_count", labels, total)]


class Exposition:
    """Everything that was counted since the start; it lives as long as the service."""

    def __init__(self) -> None:
        self.requests: dict[Labels, int] = {}
        self.seconds: dict[Labels, Histogram] = {}
        self.rows: dict[Labels, Histogram] = {}

    def request(self, model: str, version: str, face: str, code: int, seconds: float) -> None:
        """Count an answered request; `model` is empty where it is not a model that is served."""
        which = (("model", model), ("version", version))
        labels = (*which, ("face", face), ("code", str(code)))
        self.requests[labels] = self.requests.get(labels, 0) + 1
        if model:
            self.seconds.setdefault(which, Histogram(SECONDS)).add(seconds)

    def run(self, model: str, version: str, rows: int) -> None:
        """Count a run of a model on so many rows, of one request or several."""
        labels = (("model", model), ("version", version))
        self.rows.setdefault(labels, Histogram(ROWS)).add(rows)

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """The page at /metrics; `gauges` are name to meaning and present value."""
        lines = [*head("modelmill_requests_total", "counter", "Answered inference requests.")]
        lines += [sample("modelmill_requests_total", labels, count) for labels, count in self.requests.items()]
        lines += head("modelmill_request_duration_seconds", "histogram", "Time from the request to its answer.")
        for labels, histogram in self.seconds.items():
            lines += histogram.lines("modelmill_request_duration_seconds", labels)
        lines += head("modelmill_batch_rows", "histogram", "Rows in a run of a model, of one request or several.")
        for labels, histogram in self.rows.items():
            lines += histogram.lines("modelmill_batch_rows", labels)
        for name, (meaning, value) in gauges.items():
            lines += [*head(name, "gauge", meaning), sample(name, (), value)]
        return "\n".join(lines) + "\n"


def head(name: str, type: str, meaning: str) -> tuple[str, str]:
    """The two lines before the samples of a figure."""
    return f"# HELP {name} {meaning}", f"# TYPE {name} {type}"


def sample(name: str, labels: Labels, value: float) -> str:
    """One line of the text format.

    >>> sample("rows", (("model", 'a"b'),), 2)
    'rows{model="a\\\\"b"} 2'
    """
    inner = ",".join(f'{key}="{_escape(text)}"' for key, text in labels)
    return f"{name}{{{inner}}} {_number(value)}" if inner else f"{name} {_number(value)}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))
