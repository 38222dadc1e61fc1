"""A trial is one candidate: picked settings and what came of them; progress is a step on its way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from modelmill.model import Model

State = Literal["running", "done", "stopped", "failed", "refused"]
"""`stopped` by a stopper or the budget, `failed` by a crash, `refused` before training since it could not fit."""


class Point(msgspec.Struct, frozen=True):
    """One point of a learning curve."""

    step: int
    values: dict[str, float]
    folds: int = 0
    """Folds that were finished by then: the steps of each fold are counted anew."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of one step of compression: what it was measured to change, and whether it was kept."""

    step: str
    settings: dict[str, Any]
    place: int
    """Which step of the recipe it is, from 0 on."""
    kept: bool
    why: str = ""
    """Why it was dropped, or what there is to say of one that was kept."""
    size_bytes: tuple[int, int] | None = None
    """Before and after; None where the step refused."""
    quality: tuple[float, float] | None = None
    """The metric that decides on the validation rows, before and after; None where there were none to tell."""
    latency_ratio: tuple[float, float, float] | None = None
    """Time of a row after to that before, in turns: the median and the ends of its 95 % interval."""
    graphs: tuple[str, str] | None = None
    """Digests of the graphs before and after, where they were kept to be timed."""
    insisted: bool = False
    """Whether it is taken whatever it costs."""
    reused: bool = False
    """Whether the step was not run, since an earlier run had kept what comes out of it."""


class Trial(msgspec.Struct, frozen=True):
    """One candidate with its scores; JSON in and out."""

    number: int
    state: State
    settings: dict[str, Any]
    """Path of the setting in the spec: the value picked."""
    seed: int = 0
    metrics: dict[str, float] = {}
    """Metric: value on the validation rows."""
    spread: float = 0.0
    """Standard error of the metric that decides."""
    costs: dict[str, float] = {}
    """What was measured of it when it had ended."""
    foreseen: dict[str, float] = {}
    """The least that it costs, as its untrained graph showed: what stands at every point of its curve."""
    curve: tuple[Point, ...] = ()
    notes: tuple[str, ...] = ()
    """What was done or left out, and why, a sentence each."""
    error: str = ""
    artifact: str = ""
    """Digest of the candidate's ONNX file in the blob folder."""
    seconds: float = 0.0
    """How long it took; an observation, recorded once."""
    measure_s: float = 0.0
    """The part of it that measuring took."""
    work: float = 0.0
    """What training cost in row-steps times multiply-adds, the same on every machine."""
    memo: dict[str, Any] = {}
    """What the sampler that suggested it wrote down."""
    gradients: dict[str, float] = {}
    """Setting: the derivative of the loss, where trials were asked for it."""
    like: int | None = None
    """The trial whose training it shares: it has its seed, and differs from it in what comes after training alone."""
    steps: tuple[Outcome, ...] = ()
    """What became of its steps of compression, those that were dropped among them."""
    pick_s: float = 0.0
    """Processor seconds that the search spent on suggesting it."""


@dataclass(frozen=True, eq=False)
class Progress:
    """One step of a long verb; the last one of a verb holds its result."""

    step: int
    total: int
    values: Mapping[str, float] = field(default_factory=dict)
    """Losses and metrics by name, such as `train_loss` and `valid_accuracy`."""
    note: str = ""
    result: Model | None = None
    steps: tuple[Outcome, ...] = ()
    """What became of the steps of a chain; the last one of a chain that is held to its word has them."""
