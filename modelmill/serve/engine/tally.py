"""What a lane has done since it was made, counted exactly: requests, runs, and how long each phase took."""

from __future__ import annotations

from time import time_ns


class Phase:
    """How often something was done, and how long it took in all; it grows."""

    __slots__ = ("count", "ns")

    def __init__(self) -> None:
        self.count = 0
        self.ns = 0

    def add(self, ns: int) -> None:
        """Count one that took so long."""
        self.count += 1
        self.ns += ns


class Size:
    """The runs of one number of rows: how many, and their phases in all; it grows."""

    __slots__ = ("count", "infer_ns", "input_ns", "output_ns")

    def __init__(self) -> None:
        self.count = 0
        self.input_ns = 0
        self.infer_ns = 0
        self.output_ns = 0


class Tally:
    """The counters of one lane. They are written on the loop alone, without locks, and read whenever one likes.

    A request that shares a run is counted with the whole run's time in each phase, as the protocol's statistics do;
    `batches` has every run once.
    """

    __slots__ = (
        "batches",
        "cancelled",
        "executions",
        "expired",
        "failed",
        "infer",
        "input",
        "last_ms",
        "output",
        "queue",
        "refused",
        "rows",
        "succeeded",
    )

    def __init__(self) -> None:
        self.executions = 0
        """Runs that brought answers."""
        self.rows = 0
        """Rows of those runs."""
        self.succeeded = Phase()
        """Requests that were answered, from their arrival in the engine to their outputs."""
        self.failed = Phase()
        """Requests that were not: the model failed, the client left, or the deadline passed."""
        self.cancelled = 0
        """Of those, requests whose client left."""
        self.expired = 0
        """Of those, requests whose deadline passed."""
        self.refused = 0
        """Requests that were refused on arrival; they are not among the failed."""
        self.queue = Phase()
        """How long requests that were answered waited for their first run."""
        self.input = Phase()
        """How long it took to join their columns."""
        self.infer = Phase()
        """How long the model ran for them."""
        self.output = Phase()
        """How long it took to take the outputs apart."""
        self.batches: dict[int, Size] = {}
        """By the rows of a run."""
        self.last_ms = 0
        """When the last run ended, in milliseconds since 1970."""

    def ran(self, rows: int, input_ns: int, infer_ns: int, output_ns: int) -> None:
        """Count a run."""
        self.executions += 1
        self.rows += rows
        self.last_ms = time_ns() // 1_000_000
        size = self.batches.get(rows)
        if size is None:
            size = self.batches[rows] = Size()
        size.count += 1
        size.input_ns += input_ns
        size.infer_ns += infer_ns
        size.output_ns += output_ns

    def ran_at_once(self, rows: int, ns: int) -> None:
        """Count a request that was a run by itself, on the loop."""
        self.succeeded.add(ns)
        self.queue.count += 1
        self.input.count += 1
        self.infer.add(ns)
        self.output.count += 1
        self.ran(rows, 0, ns, 0)

    def answered(self, ns: int, queue_ns: int, input_ns: int, infer_ns: int, output_ns: int) -> None:
        """Count a request with its outputs."""
        self.succeeded.add(ns)
        self.queue.add(queue_ns)
        self.input.add(input_ns)
        self.infer.add(infer_ns)
        self.output.add(output_ns)
