"""What every candidate of a run shares: the spec, the rows, and what is given in place of an untrained body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from modelmill.compress.finished import Finished
from modelmill.contracts import Task
from modelmill.dataset import Splits
from modelmill.model import Body, Model
from modelmill.recipe.shelf import Shelf
from modelmill.signature import Signature
from modelmill.spec import Spec
from modelmill.store.blobs import Blobs


@dataclass(frozen=True, eq=False)
class Base:
    """A published version that a run compresses: what candidates begin with, and what they are measured against."""

    reference: str
    model: Model
    served: bytes
    """Its graph as it is served: what a candidate's bytes and time are held against."""
    searched: Model
    """What candidates begin with: the model as it was before it was made anew, which has not seen the validation rows;
    the model itself where that is not kept, or where the rows are new to it."""
    graph: bytes
    """The graph of the searched model: what a candidate's answers are held against. It may have steps of compression
    that were dropped for their time when the version was made anew."""
    quality: float
    """The metric that decides, of that graph on the validation rows."""
    agreement: bool = False
    """Whether its own answers stand for the truth: quality is how far a candidate agrees with it."""

    @cached_property
    def stored(self) -> int:
        """Bytes in the store of its graph as it is served."""
        from modelmill.store.packing.packed import stored

        return len(stored(self.served))


@dataclass(frozen=True, eq=False)
class Job:
    """What every trial of a run shares; `live` is a body that was given instead of an arch."""

    spec: Spec
    splits: Splits
    signature: Signature
    task: Task
    live: Body | None = None
    bases: Mapping[str, Body] = field(default_factory=dict)
    """Trained bodies that an arch may start from, by reference."""
    shelf: Shelf | None = None
    """Where trained models are kept for candidates that share them."""
    base: Base | None = None
    """What is compressed, where nothing is trained; `live` is its body then."""
    others: Mapping[str, Model] = field(default_factory=dict)
    """Models that steps ask, by the reference that they name them by."""
    finished: Finished | None = None
    """What steps gave in earlier runs."""
    blobs: Blobs | None = None
    """Where graphs are kept that are to be timed."""
