"""The machine's processors and memory, by the names that Triton has for them: read from Linux when somebody asks."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from modelmill.serve.signals.exposition import gauge

PROC = Path("/proc")

IDLE = (3, 4)
"""Places in the first line of /proc/stat of the time without work: idle, and waiting for a disk."""

COUNTED = 8
"""So many of its numbers are times: those after them are in the first two already."""


class Machine:
    """What the machine does; it holds what its processors had done when it was last asked."""

    def __init__(self, proc: Path = PROC) -> None:
        self.proc = proc
        self._lock = threading.Lock()
        self._before = self._times()
        self._ratio = 0.0

    def lines(self) -> list[str]:
        """Samples for Prometheus; none on a machine that does not say.

        Processors: the part of their time that was used, since this was last asked.
        """
        memory = self._memory()
        if memory is None or not self._before:
            return []
        total, available = memory
        found = (
            ("nv_cpu_utilization", "Part of the processors' time that is used, 0 to 1.", self._used()),
            ("nv_cpu_memory_total_bytes", "The machine's memory.", total),
            ("nv_cpu_memory_used_bytes", "The machine's memory that is not available.", total - available),
        )
        return [line for name, meaning, value in found for line in gauge(name, meaning, value)]

    def _used(self) -> float:
        with self._lock:
            now = self._times()
            spent = sum(now) - sum(self._before)
            if spent > 0:
                idle = sum(now[place] - self._before[place] for place in IDLE)
                self._before, self._ratio = now, min(1.0, max(0.0, 1 - idle / spent))
            return self._ratio

    def _times(self) -> Sequence[int]:
        """How long all processors together did what, since the machine was started."""
        try:
            first = (self.proc / "stat").read_text("ascii").partition("\n")[0].split()
            return [int(number) for number in first[1 : COUNTED + 1]] if len(first) > COUNTED else []
        except (OSError, ValueError):
            return []

    def _memory(self) -> tuple[int, int] | None:
        """The bytes that there are, and those that can be had."""
        try:
            lines = (self.proc / "meminfo").read_text("ascii").splitlines()
            found = {name: 1024 * int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
            return found["MemTotal"], found["MemAvailable"]
        except (OSError, ValueError, KeyError, IndexError):
            return None
