"""Times the steps of recipes: what came out of each beside what went in, in turns, while nothing else runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from modelmill.dataset import Dataset
from modelmill.store.blobs import Blobs
from modelmill.store.disk import write_file
from modelmill.trial import Outcome

Ratio = tuple[float, float, float]
"""How long a row takes after to before: the median over turns, and the ends of its 95 % interval."""

LOOK = {"seconds": 0.12, "blocks": 12, "warmups": 5}
"""How every step is timed: of each graph so many seconds, in so many turns."""

SURE = {"seconds": 0.6, "blocks": 30, "warmups": 20}
"""How a step is timed again that seems slower: it is dropped by this measurement alone."""


NOISE = 1.01
"""Above this the whole interval must lie for a step to count as slower: a graph beside itself is off by so much."""

WIDE = 1.1
"""An interval that reaches so far says more of what else the machine did."""


class Stopwatch:
    """Times pairs of graphs; state: what was measured, in a file, so that a run which goes on decides as it did."""

    def __init__(self, rows: Dataset, blobs: Blobs, path: Path, fresh: bool = False) -> None:
        self._rows = rows
        self._blobs = blobs
        self._path = path
        self._known: dict[str, Ratio] = {}
        if path.exists() and not fresh:
            self._known = msgspec.json.decode(path.read_bytes(), type=dict[str, Ratio])

    def steps(self, outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
        """The outcomes with their times; the first step that is slower beyond the noise is not kept.

        What comes after it was measured on top of it, and has to be made anew.
        """
        found: list[Outcome] = []
        for outcome in outcomes:
            if outcome.graphs is None or outcome.latency_ratio is not None:
                found.append(outcome)
                continue
            timed = replace(outcome, latency_ratio=self.ratio(*outcome.graphs))
            found.append(timed)
            if slower(timed):
                found[-1] = replace(timed, kept=False, why=why(timed))
                break
        return (*found, *outcomes[len(found) :])

    def beside(self, parent: bytes, child: bytes) -> Ratio:
        """The ratio of a candidate to what it would replace."""
        return self.ratio(self._blobs.put(parent), self._blobs.put(child))

    def ratio(self, before: str, after: str) -> Ratio:
        """The ratio of a pair, by digests; measured again, and longer, where a first look leaves it open."""
        if before == after:
            return 1.0, 1.0, 1.0
        pair = f"{before} {after}"
        if pair not in self._known:
            graphs = [self._blobs.get(after), self._blobs.get(before)]
            found = compare(graphs, self._rows, LOOK)
            self._known[pair] = compare(graphs, self._rows, SURE) if unsure(found) else found
            write_file(self._path, msgspec.json.encode(self._known))
        return self._known[pair]


def compare(graphs: Sequence[bytes], rows: Dataset, plan: Mapping[str, Any]) -> Ratio:
    """How long the first graph takes for a row to the last, in turns."""
    from modelmill.evaluate.costs.latency import Latency

    figures = Latency(**plan)(graphs, rows)[0]
    return figures["latency_ratio"], figures["latency_ratio_low"], figures["latency_ratio_high"]


def unsure(found: Ratio) -> bool:
    """Whether a first look leaves it open that a row takes longer: it says so, or other work disturbed it."""
    return found[1] > NOISE or found[2] > WIDE


def slower(outcome: Outcome) -> bool:
    """Whether a step was measured to be slower beyond the noise, and nobody insists on it."""
    return outcome.latency_ratio is not None and outcome.latency_ratio[1] > NOISE and not outcome.insisted


def why(outcome: Outcome) -> str:
    """What to say of a step that is dropped for its time."""
    middle, low, high = outcome.latency_ratio or (1.0, 1.0, 1.0)
    return f"it is slower: a row takes {middle:.2f} times as long ({low:.2f} to {high:.2f})"


def dropped(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The steps that were dropped for their time."""
    return [one for one in outcomes if not one.kept and one.latency_ratio is not None]
