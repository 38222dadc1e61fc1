"""Mixed precision: every node in floats, 8 or 4 bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from modelmill.compress.quantize.calibrates import Calibrates
from modelmill.contracts import Compressor, Judge, Task
from modelmill.dataset import Splits
from modelmill.model import Kind, Model
from modelmill.trial import Progress

ATTEMPTS = 6
"""Mixes that are built at most: what a whole costs is not quite the sum of its parts."""


class Mixed(Compressor, Calibrates):
    """Give each node floats, 8 bits or (for matrices, weights alone) 4: what loses least below a limit on the cost.

    The loss of a precision is how far answers are off when one node alone has it; its cost is measured with all others
    in 8 bits. With `by = "latency"` the same seed may give another mix, since timings differ.

    Dong et al. (2020), https://arxiv.org/abs/1911.03852; Yao et al. (2021), https://arxiv.org/abs/2011.10680
    """

    takes: ClassVar[frozenset[Kind]] = frozenset({"graph"})
    gives: ClassVar[Kind | None] = "graph"

    by: Literal["size", "latency"] = "size"
    """What is limited: bytes of the file, or milliseconds of one row on one thread of this machine."""
    ratio: Annotated[float, Meta(gt=0, le=1)] = 0.4
    """The limit, as a share of what the graph costs as it came."""
    rows: Annotated[int, Meta(ge=1)] = 256
    """Training rows to calibrate and to compare answers on, at most."""

    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Yield the graph of the best mix that keeps the limit, or of the nearest where none does."""
        from modelmill.compress.quantize.allot import allot
        from modelmill.compress.quantize.calibrate import opened
        from modelmill.compress.quantize.graphs import outcome, planned, skipped
        from modelmill.compress.quantize.mixing import BYTES, Mixer
        from modelmill.graph.clean import stripped

        found = opened(model.body.value, self.smallest)
        if found is None:
            yield skipped(model, self.smallest)
            return
        proto, nodes = found
        del found  # a large model is held once
        limit_words = f"{self.by} may be {self.ratio:.0%} of what it is"
        yield planned(len(nodes), f"be compared in floats, 8 bits and, if matrices, 4 bits; the {limit_words}")
        rows = self.sampled(data, seed)
        mixer = Mixer(proto, nodes, self.seen(proto, nodes, rows), self, rows)
        table, base, floats = mixer.table(self.by)
        limit = self.ratio * floats
        best, cost, aim = mixer.mix([BYTES] * len(table)), base, limit
        for _ in range(ATTEMPTS):
            picked = allot(table, aim - base)
            if picked is None:
                picked = [min(range(len(options)), key=lambda i: options[i].cost) for options in table]
            mix = mixer.mix([options[number].name for options, number in zip(table, picked, strict=True)])
            now = next(mixer.costs([mix], self.by))
            if now < cost or now <= limit:
                best, cost = mix, now
            if now <= limit:
                break
            aim -= max(now - limit, 0.01 * limit)
        words = ", ".join(f"{count} in {way}" for way, count in sorted(Counter(best.values()).items()))
        kept = "within" if cost <= limit else "the nearest to"
        graph = stripped(mixer.graph(best))
        yield outcome(model, graph, "quantize.mixed", len(nodes), f"are mixed ({words}), {kept} the limit")
