"""A model: preparation, a body and decoding, with its signature; compressed or not, it is the same type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from modelmill.fragment import Fragment
from modelmill.signature import Signature

Kind = Literal["network", "estimator", "graph"]


@dataclass(frozen=True, eq=False)
class Body:
    """What does the predicting.

    network: a torch module that maps (batch, features) or (batch, channels, height, width) to (batch, outputs).
    estimator: an object with scikit-learn's `predict`, fitted on (rows, features) float32.
    graph: the bytes of a finished ONNX file that takes raw rows and gives the task's outputs.
    """

    kind: Kind
    value: Any
    arch: Mapping[str, Any] = field(default_factory=dict)
    """The table of the spec that made the body, so that a narrower one can be made."""
    features: tuple[int, ...] = ()
    """The shape of a row of features that it was made for; empty where that is not known."""


@dataclass(frozen=True, eq=False)
class Part:
    """One body with the preparation before it; a graph body carries its preparation within."""

    body: Body
    prepare: Fragment = field(default_factory=Fragment)
    """Operations from the raw inputs, by their names, to the value `features`."""


@dataclass(frozen=True, eq=False)
class Model:
    """Ordered parts (usually one), what goes in and out, and where it comes from."""

    parts: tuple[Part, ...]
    signature: Signature
    history: tuple[str, ...] = ()
    """What was done to it, one line a step."""

    @property
    def part(self) -> Part:
        """The only part of a model that has one."""
        assert len(self.parts) == 1, "a model of several parts is met by the chain, not by a method"
        return self.parts[0]

    @property
    def body(self) -> Body:
        """The body of the only part."""
        return self.part.body

    def with_body(self, value: Any, kind: Kind, note: str, arch: Mapping[str, Any] | None = None) -> Model:
        """The same model with another body; a graph body takes preparation and decoding into itself."""
        body = Body(kind, value, self.body.arch if arch is None else arch, self.body.features)
        part = Part(body) if kind == "graph" else replace(self.part, body=body)
        return replace(self, parts=(part,), history=(*self.history, note))
