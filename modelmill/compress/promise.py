"""What every step of a recipe is held to: no larger and no slower than what it replaces, and within the allowed loss.

Bytes and quality are known where the step ran, and judged here. How long a row takes is measured elsewhere, while
nothing else runs: `graphs` of an outcome say what is to be timed, and `slow` holds what turned out to be slower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from modelmill.compress.finished import Finished
from modelmill.contracts import Compressor, Judge, Task
from modelmill.errors import ModelError
from modelmill.graph.export import export
from modelmill.method import find, name_of
from modelmill.model import Model
from modelmill.trial import Outcome

ROUNDING = 1e-9
"""How far a quality may be below the least that is allowed, since fractions are not exact."""


@dataclass(frozen=True, eq=False)
class Stand:
    """A model on its way through a recipe: its graph, and its quality on the validation rows (higher is better)."""

    model: Model
    graph: bytes
    quality: float


@dataclass(frozen=True, eq=False)
class Promise:
    """What a recipe is held to, and what is known of its steps beforehand."""

    metric: str
    """What the judge tells of, signed so that higher is better."""
    allow_loss: float | None = None
    """How much of it may be lost; None for any loss: a search weighs it by itself."""
    reference: float | None = None
    """What it must not fall short of by more than that; by default that of the model which the recipe begins with."""
    slow: Mapping[int, Outcome] = field(default_factory=dict)
    """Steps, by their place, that were measured to be slower: they are left out."""
    insisted: frozenset[int] = frozenset()
    """Places of steps that are taken whatever they cost."""
    keep: Callable[[bytes], str] | None = None
    """Stores a graph that is to be timed and gives its digest."""
    finished: Finished | None = None
    """What steps gave in earlier runs."""

    def stand(self, model: Model, task: Task, judge: Judge) -> Stand:
        """How a model stands. Its graph is judged, which is what will be served; and only where a loss is counted."""
        graph = export(model, task)
        counted = self.allow_loss is not None
        return Stand(model, graph, judge(model.with_body(graph, "graph", "")) if counted else math.nan)

    def least(self, start: Stand) -> float:
        """The quality that every step must leave, as the judge tells it; NaN where any is enough."""
        if self.allow_loss is None:
            return math.nan
        return least(self.metric, start.quality if self.reference is None else self.reference, self.allow_loss)

    def outcome(self, step: Compressor, place: int, before: Stand, after: Stand, enough: float) -> Outcome:
        """Whether a step is kept, as far as bytes and quality tell."""
        found = Outcome(
            name_of(type(step)),
            settings(step),
            place,
            kept=True,
            size_bytes=(len(before.graph), len(after.graph)),
            quality=self._told(before, after),
            insisted=place in self.insisted,
        )
        if before.graph == after.graph:
            return replace(found, why="it changes nothing")
        if not found.insisted:
            if len(after.graph) > len(before.graph):
                why = f"it makes the file larger: {len(before.graph):,} to {len(after.graph):,} bytes"
                return replace(found, kept=False, why=why)
            if after.quality < enough - ROUNDING:
                why = f"{self.metric} {abs(after.quality):.4f}, and {abs(enough):.4f} is the least that is allowed"
                return replace(found, kept=False, why=why.replace("least", "most") if after.quality < 0 else why)
        digests = (self.keep(before.graph), self.keep(after.graph)) if self.keep else None
        return replace(found, graphs=digests)

    def refused(self, step: Compressor, place: int, error: ModelError) -> Outcome:
        """The outcome of a step that cannot be taken, with the reason that it gave."""
        return Outcome(name_of(type(step)), settings(step), place, kept=False, why=f"it cannot be taken: {error}")

    def _told(self, before: Stand, after: Stand) -> tuple[float, float] | None:
        """The qualities as the metric tells them; None where there were no rows to judge by."""
        if math.isnan(before.quality) or math.isnan(after.quality):
            return None
        sign = 1 if find("metrics", self.metric).better == "higher" else -1
        return sign * before.quality, sign * after.quality


def least(metric: str, quality: float, allow_loss: float) -> float:
    """The least quality, signed so that higher is better, after a loss that is allowed.

    A metric of which more is better may fall by so much; an error may grow by such a share of itself.

    >>> least("accuracy", 0.9, 0.25), least("rmse", -2.0, 0.25)
    (0.65, -2.5)
    """
    lost = allow_loss if find("metrics", metric).better == "higher" else allow_loss * abs(quality)
    return quality - lost


def settings(step: Compressor) -> dict[str, Any]:
    """The settings of a step, without how long it may take."""
    return {name: value for name, value in step.as_table().items() if name not in ("method", "seconds")}
