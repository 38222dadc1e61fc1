"""What rows and answers were like when a model was published: a sketch of some kilobytes, kept beside the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec
import numpy as np

from modelmill.contracts import Array, Detector, Outputs
from modelmill.dataset import Dataset
from modelmill.errors import RegistryError
from modelmill.monitor.aspects import aspects, kind_of
from modelmill.monitor.detectors.chi_square import ChiSquare
from modelmill.monitor.detectors.fisher import Fisher
from modelmill.monitor.detectors.ks import Ks
from modelmill.monitor.detectors.psi import Psi
from modelmill.monitor.tally import rows

FILE = "reference.json"
"""The file of a version that holds its reference."""

FORMAT = 1

TESTS: dict[str, Detector] = {"f": Ks(level=1), "O": ChiSquare(level=1), "b": Fisher(level=1)}
"""Which detector gives the p-value of an aspect, by the kind of its array."""

EFFECT = Psi(threshold=0, fewest=1)
"""What says how far an aspect moved."""


class Part(msgspec.Struct, frozen=True):
    """One aspect of a column or output, and the states of the detector that tests it and of the effect's."""

    aspect: str
    test: str
    state: Any
    effect: Any


class Watched(msgspec.Struct, frozen=True):
    """A column or an output with all that is known of it."""

    place: Literal["column", "output"]
    name: str
    kind: str
    parts: tuple[Part, ...]


class Reference(msgspec.Struct, frozen=True):
    """The whole sketch."""

    watched: tuple[Watched, ...]
    format: int = FORMAT


def reference(outputs: Outputs, data: Dataset) -> bytes:
    """The sketch of the columns of `data` and of a model's answers, as JSON.

    The answers should be to rows that the model did not learn from: it is surer of those that it did, and every
    later row would seem to have changed. They need not be answers to `data`.
    """
    columns = [
        _watched("column", field.name, field.kind, data.columns[field.name], field.nullable) for field in data.fields
    ]
    answers = [_watched("output", name, kind_of(name, given), given, False) for name, given in sorted(outputs.items())]
    return msgspec.json.encode(Reference((*columns, *answers)))


def _watched(place: Literal["column", "output"], name: str, kind: str, values: Array, gaps: bool) -> Watched:
    return Watched(place, name, kind, tuple(_parts(kind, values, gaps)))


def _parts(kind: str, values: Array, gaps: bool) -> Iterator[Part]:
    for aspect, array in aspects(kind, values).items():
        if aspect == "missing" and not gaps:
            continue  # such rows are refused before they come here
        part = _part(aspect, array)
        yield part
        if part.test == "O":
            yield _part("unseen", np.arange(rows(part.state)) < part.state["unseen"])


def _part(aspect: str, array: Array) -> Part:
    test = array.dtype.kind
    return Part(aspect, test, TESTS[test].start(array), EFFECT.start(array))


def decoded(content: bytes) -> Reference:
    """The sketch in the bytes. Raises RegistryError where they hold none that this release reads."""
    try:
        found = msgspec.json.decode(content, type=Reference)
    except msgspec.MsgspecError as error:
        raise RegistryError(FILE, f"is no reference: {error}", "Build the model again.") from None
    if found.format != FORMAT:
        message = f"has the format {found.format}; this release reads {FORMAT}"
        raise RegistryError(FILE, message, "Install the release that published it, or build the model again.")
    return found
