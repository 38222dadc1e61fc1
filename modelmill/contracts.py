"""Every contract on one page: what a method of each family is given, and what it gives back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from modelmill.dataset import Dataset, Splits
from modelmill.finding import Finding
from modelmill.fragment import Fragment, Writer
from modelmill.history import Curve, History, Suggestion
from modelmill.method import Method
from modelmill.model import Body, Model
from modelmill.model import Kind as BodyKind
from modelmill.signature import Field, Signature
from modelmill.space import Space
from modelmill.trial import Progress

Array = np.ndarray[Any, Any]
Outputs = Mapping[str, Array]
"""A model's answer: output name to array, the first axis the rows."""

Judge = Callable[[Model], float]
"""A model's quality on the validation rows; higher is better, whatever the metric."""


class Source(Method):
    """Where rows come from; these settings are those of every source."""

    target: str = ""
    """The column to predict; found where it is not named."""
    types: dict[str, str] = {}
    """Column: kind (number, boolean, category, date), where the inferred one is wrong."""
    group: str = ""
    """A column whose equal values stay on one side of every split."""
    time: str = ""
    """A column to cut the splits by: the newest rows are the test set."""
    weight: str = ""
    """A column of sample weights."""
    test: str = ""
    """A file with the stated test set, read as the source is."""

    @abstractmethod
    def __call__(self) -> Dataset:
        """Read the rows. Raises SourceError or ContentError, naming the file and the line."""


class Check(Method):
    """A look at the data before any training."""

    @abstractmethod
    def __call__(self, splits: Splits) -> Iterator[Finding]:
        """Yield what was noticed; a fatal finding refuses the data."""


@dataclass(frozen=True, eq=False)
class Column:
    """A value of the graph on its way from raw input to features.

    kind: "number" is a (rows, width) float32 block, "category" a (rows,) string, "date" a (rows,) int64,
    "image" a (rows, height, width[, channels]) raw or (rows, channels, height, width) float32 array, "sequence" a
    (rows, channels, steps) float32 array.
    """

    name: str
    """The value's name in the graph."""
    kind: str
    labels: tuple[str, ...]
    """What each feature is called: one for each column of a block."""
    values: Array | None = None
    """The training rows, to fit on; the chain fills it in."""


class Preparation(Method):
    """A step from raw columns to features, fitted on training rows, then part of the graph."""

    @abstractmethod
    def __call__(self, columns: Sequence[Column], writer: Writer) -> Sequence[Column]:
        """Fit on `columns[...].values`, write the operations, and give the columns of the graph after the step.

        Columns that the step does not act on are passed through. New columns leave `values` None: the chain runs the
        graph so far to get them, so that training and serving see the same numbers.
        """


class Augmented(NamedTuple):
    """A batch after an augmentation, and how its rows were blended where they were."""

    batch: Any
    """(rows, channels, height, width) or (rows, features) float32."""
    order: Any = None
    """(rows,) int64: the place of the row that each was blended with; None where none was."""
    share: float = 1.0
    """How much of a blended row is the row itself; its target counts for as much."""


class Augmentation(Method):
    """Changes prepared rows at random while a network learns, and leaves what they mean."""

    kinds: ClassVar[frozenset[str]]
    """The kinds of features it takes: "table", "image", "sequence"."""

    @abstractmethod
    def __call__(self, batch: Any, random: np.random.Generator) -> Augmented:
        """A changed batch of the same shape; the input is left as found, and all chance comes from `random`."""


class Arch(Method):
    """An untrained body: what shape of model is trained."""

    body: ClassVar[BodyKind]
    kinds: ClassVar[frozenset[str]]
    """The kinds of features it takes: "table", "image", "sequence"."""
    tasks: ClassVar[frozenset[str]]

    @abstractmethod
    def __call__(self, signature: Signature, features: tuple[int, ...], seed: int) -> Any:
        """Build the body for features of that shape (without the rows' axis); the same seed, the same weights."""

    def asks(self) -> Mapping[str, Mapping[str, Any]]:
        """Settings of `train` and `task` that suit it: they count where a spec says nothing of them."""
        return {}


class Heir(Method):
    """A body that starts from a trained one: with its weights, or some of them."""

    body: ClassVar[BodyKind]
    kinds: ClassVar[frozenset[str]]
    tasks: ClassVar[frozenset[str]]

    model: str

    @abstractmethod
    def __call__(self, base: Body, signature: Signature, features: tuple[int, ...], seed: int) -> Any:
        """Build the body; `base` is left as found. Raises ModelError where the base cannot be the start of it."""


class Task(Method):
    """What the model is for: how outputs are taught, decoded and named."""

    metrics: tuple[str, ...]
    """Names of the metrics that are told; the first decides: which epoch is kept, and what curves are compared by.

    A run puts the metric of its goal there.
    """
    outputs: ClassVar[tuple[str, ...]]

    @abstractmethod
    def declare(self, classes: Sequence[Any]) -> tuple[Field, ...]:
        """The outputs as the signature lists them."""

    @abstractmethod
    def width(self, classes: Sequence[Any]) -> int:
        """How many numbers the body gives for a row."""

    @abstractmethod
    def encode(self, target: Array, classes: Sequence[Any]) -> Array:
        """Targets as the body learns them: class indices (int64) or values (float32)."""

    @abstractmethod
    def loss(self, raw: Any, encoded: Any, weights: Any | None, smoothing: float, focal: float = 0.0) -> Any:
        """The mean loss of torch tensors: raw (batch, width), encoded (batch,), weights (batch,) or None.

        focal: how much less a row counts that is answered well already; only for classes.
        """

    @abstractmethod
    def decode(self, raw: str, form: str, signature: Signature, writer: Writer) -> None:
        """Write operations from a body's raw output to the named outputs.

        form: "logits", "probabilities" or "value", what the body gives.
        """


Pick = Callable[[History, int], Suggestion | None]
"""Suggests the next candidate from the history and a seed of its own; None where nothing is left to suggest.

It may remember what it worked out, but what it suggests depends on nothing but its two arguments: a search that was
killed goes on as if it had not been.
"""


class Sampler(Method):
    """Picks the next candidate."""

    gradients: ClassVar[bool] = False
    """Whether every trial is asked how its loss changes with its settings."""

    exact: ClassVar[bool] = False
    """Whether it goes through the space cell by cell: the search begins with its first, and ends with its last."""

    def suits(self, space: Space) -> bool:
        """Whether it has anything of its own to pick in this space; a portfolio leaves it out where it has not."""
        return True

    @abstractmethod
    def __call__(self, space: Space) -> Pick:
        """What picks in this space. Raises SpecError, naming it, for a range that the algorithm cannot take."""


class Generator(Method):
    """Draws architectures: picks the settings of `arch` and leaves all others to the sampler."""

    @abstractmethod
    def __call__(self, space: Space) -> Pick:
        """What picks the settings below `arch`, and only those. Raises SpecError for an arch that it cannot draw."""


class Stopper(Method):
    """Says when a trial is not worth finishing."""

    @abstractmethod
    def __call__(self, curve: Curve, others: Sequence[Curve]) -> str:
        """Why to stop the trial with this curve, given those of all other trials; empty to let it go on."""


class Trainer(Method):
    """Fits a body."""

    takes: ClassVar[frozenset[BodyKind]]
    differentiable: ClassVar[frozenset[str]] = frozenset()
    """Settings of which it can say how the loss changes with them."""

    @abstractmethod
    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Train a copy of the model and yield progress; the last one holds the result. The input is left as found."""


class Compressor(Method):
    """Makes a model smaller or faster."""

    takes: ClassVar[frozenset[BodyKind]]
    gives: ClassVar[BodyKind | None] = None
    """The kind of body that comes out, where it differs from what went in."""
    series: ClassVar[bool] = False
    """Whether the answer to a row comes to depend on the rows before it in the same call."""

    @abstractmethod
    def __call__(self, model: Model, data: Splits, task: Task, judge: Judge, seed: int) -> Iterator[Progress]:
        """Compress a copy of the model and yield progress; the last one holds the result, of the same signature."""


class Metric(Method):
    """A figure of quality that can be computed in parts and merged."""

    better: ClassVar[str]
    """"higher" or "lower"."""
    tasks: ClassVar[frozenset[str]]
    best: ClassVar[float]
    """The best value that there can be: 1 or 0 for most."""
    exact: ClassVar[bool] = True
    """Whether merged parts give the figure of the whole, or a sketch of it."""

    @abstractmethod
    def part(self, predictions: Outputs, targets: Array, classes: Sequence[Any]) -> Any:
        """What is kept of some rows: small, and JSON-able or an array."""

    @abstractmethod
    def merge(self, first: Any, second: Any) -> Any:
        """The part of both; the order does not matter."""

    @abstractmethod
    def total(self, part: Any) -> float:
        """The figure; NaN where it is not defined (one class only)."""


Measurements = list[dict[str, float]]
"""For every model measured, cost name to value."""


class Cost(Method):
    """What a served model costs, measured on the runtime that serves it."""

    gives: ClassVar[tuple[str, ...]]
    """Names of the costs that come of one run."""

    @abstractmethod
    def __call__(self, models: Sequence[bytes], data: Dataset) -> Measurements:
        """Measure ONNX files on raw rows, interleaved in one run."""


class Detector(Method):
    """Notices that a series of windows differs from a reference; its state is in the open."""

    @abstractmethod
    def start(self, reference: Array) -> Any:
        """The state that stands for the reference values."""

    @abstractmethod
    def step(self, state: Any, window: Array) -> tuple[Any, Finding | None]:
        """The next state, and what was noticed in this window."""


Labels = Mapping[str, int]
"""Every number (as text) and alias of a model's versions: the number it stands for. `live` is what NAME alone is."""


class Router(Method):
    """Picks the version that answers a request for NAME alone; a request for NAME@VERSION never comes to it."""

    @property
    def key(self) -> str:
        """What of a request is taken for its id: `request`, `tenant`, `key`, `header:NAME` or `cookie:NAME`."""
        return "request"

    @property
    def keeps(self) -> tuple[str, ...]:
        """The labels of versions that stay loaded while the route stands."""
        return ()

    @abstractmethod
    def __call__(self, id: str, versions: Labels) -> int:
        """The number of the version that answers; the id is empty where the request has none. Raises NotServed."""

    def mirror(self, id: str, versions: Labels) -> int | None:
        """The number of the version that is asked too, and whose answer nobody sees; None for most routers."""
        return None


class Importer(Method):
    """Reads a model made elsewhere."""

    suffixes: ClassVar[tuple[str, ...]]

    @abstractmethod
    def __call__(self, path: str) -> Model:
        """The model in the file, loaded without running code of the file's."""


__all__ = [
    "Arch",
    "Array",
    "Augmentation",
    "Augmented",
    "Check",
    "Column",
    "Compressor",
    "Cost",
    "Detector",
    "Fragment",
    "Generator",
    "Heir",
    "Importer",
    "Judge",
    "Labels",
    "Measurements",
    "Metric",
    "Outputs",
    "Pick",
    "Preparation",
    "Router",
    "Sampler",
    "Source",
    "Stopper",
    "Task",
    "Trainer",
]
