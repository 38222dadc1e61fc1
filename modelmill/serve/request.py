"""An inference request as every wire hands it over, and the checks that all wires share.

A wire turns bytes into names, shapes and data; whether they are what a version takes is decided here, so that the same
fault is refused with the same words whichever way it came.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as member
from typing import Any, Protocol

import numpy as np

from modelmill.errors import RequestError, TooLarge, close_names
from modelmill.serve.engine.terms import Terms
from modelmill.serve.inputs import Input, kind
from modelmill.signature import Field, Signature

Array = np.ndarray[Any, Any]

UNSUPPORTED = {
    "shared_memory_region": "Send the data in the request.",
    "sequence_id": "Models here keep no state between requests.",
    "sequence_start": "Models here keep no state between requests.",
    "sequence_end": "Models here keep no state between requests.",
}
"""Parameters of extensions that are not offered: ignoring them would give a wrong answer."""

LITTLE = sys.byteorder == "little"

LONG_ELEMENTS = 16_384
"""An answer with more elements in JSON is written on a thread."""

OPEN = 64

LONG_BYTES = 65_536
"""What is longer is read on a thread, whichever wire it came by."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One output that a client wants: whether as bytes, and how many classes of it, 0 being the tensor itself."""

    name: str
    binary: bool
    classes: int = 0


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a request says of itself beside its tensors. timeout_s: for the queue and the run together."""

    binary: bool = False
    priority: int = 0
    timeout_s: float = math.inf

    def terms(self, terms: Terms, now: float) -> Terms:
        """The terms, made as strict as the request wants them."""
        if not self.priority and self.timeout_s == math.inf:
            return terms
        return Terms(min(terms.deadline, now + self.timeout_s), self.priority, terms.payer, terms.share)


NO_WISHES = Wishes()

CLASSES_MOST = 1_000_000
"""So many numbers of an answer may be ranked by `classification`."""


@dataclass(frozen=True, slots=True)
class Request:
    """An inference request, decoded and checked against what a version takes."""

    id: str | None
    columns: dict[str, Array]
    rows: int
    outputs: tuple[Asked, ...]
    wishes: Wishes = NO_WISHES

    @property
    def names(self) -> tuple[str, ...]:
        """The outputs that are wanted."""
        return tuple([asked.name for asked in self.outputs])


class Shaped(Protocol):
    """A tensor, or what says how large one is."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a version takes and gives, worked out once for all its requests."""

    signature: Signature
    inputs: dict[str, Input] = member(init=False)
    outputs: dict[str, Field] = member(init=False)
    plain: tuple[Asked, ...] = member(init=False)
    """All outputs as JSON, or as a wire gives them by itself."""
    binary: tuple[Asked, ...] = member(init=False)
    """All outputs as bytes."""
    texts: bool = member(init=False)
    """Whether it takes text, which is read element by element even where it comes as bytes."""
    row_elements: int = member(init=False)
    """How many elements a row of all outputs has, about: a size that is open is taken for OPEN."""
    opens: bool = member(init=False)
    """Whether some output has a size that is not known before, beside the rows that come."""
    heads: dict[bytes, Any] = member(default_factory=dict, compare=False, repr=False)
    """What a wire remembers of the heads of requests; it grows within bounds that the wire keeps."""

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "inputs", {each.name: Input(each) for each in self.signature.inputs})
        put(self, "texts", any(each.datatype == "BYTES" for each in self.signature.inputs))
        put(self, "outputs", {each.name: each for each in self.signature.outputs})
        rows = ([OPEN if size < 0 else size for size in each.row] for each in self.signature.outputs)
        put(self, "row_elements", sum(map(math.prod, rows)))
        has_rows = any(each.axis is not None for each in self.signature.inputs)
        put(self, "opens", any(-1 in (each.row if has_rows else each.shape) for each in self.signature.outputs))
        put(self, "plain", tuple(Asked(name, False) for name in self.outputs))
        put(self, "binary", tuple(Asked(name, True) for name in self.outputs))

    def all_inputs(self, columns: Mapping[str, object]) -> None:
        """Refuse a request without some input."""
        if len(columns) < len(self.inputs):
            missing = [name for name in self.inputs if name not in columns]
            hint = f"The model takes {listed(self.inputs)}."
            raise RequestError("inputs", f"missing: {', '.join(missing[:12])}", hint)

    def rows(self, columns: Mapping[str, Shaped]) -> int:
        """How many rows the columns have, every one as many."""
        found = -1
        for name, column in columns.items():
            axis = self.inputs[name].field.axis
            if axis is None:
                continue
            rows = column.shape[axis]
            if found < 0:
                found = rows
            elif rows != found:
                raise self._uneven(columns)
        return max(found, 1)

    def _uneven(self, columns: Mapping[str, Shaped]) -> RequestError:
        axes = {name: each.field.axis for name, each in self.inputs.items()}
        lengths = {name: columns[name].shape[axis] for name, axis in axes.items() if axis is not None}
        shown = ", ".join(f"{name} {length}" for name, length in list(lengths.items())[:8])
        return RequestError("inputs", f"have different numbers of rows: {shown}", "Give every input the same rows.")

    def asked(self, where: str, name: str, parameters: Mapping[str, Any], binary: bool) -> Asked:
        """One requested output, with its parameters."""
        if not parameters:
            return Asked(name, binary)
        chosen = flag(f"{where}.parameters.binary_data", parameters.get("binary_data", binary))
        classes = parameters.get("classification", 0)
        if classes or type(classes) is bool:
            self._check_classes(f"{where}.parameters.classification", name, classes)
        return Asked(name, chosen, int(classes))

    def _check_classes(self, where: str, name: str, classes: Any) -> None:
        each = self.outputs[name]
        if type(classes) is not int or not 0 < classes < 2**31:
            raise RequestError(where, f"expected a number of classes, 1 or more, came {kind(classes)}", "Such as 3.")
        if not _holds_scores(each):
            others = [field.name for field in self.outputs.values() if _holds_scores(field)]
            hint = f"It is for scores, such as {others[0]}." if others else ""
            raise RequestError(where, f"{name} holds no scores of classes", hint)

    def labels(self, name: str) -> tuple[str, ...]:
        """The classes whose scores an output holds; none where it holds something else."""
        row = math.prod(self.outputs[name].row)
        classes = self.signature.classes
        return tuple(map(str, classes)) if len(classes) == row and row > 1 else ()


def _holds_scores(field: Field) -> bool:
    """Whether an output has numbers for every row, which may be scores of classes."""
    return field.datatype not in ("BYTES", "BOOL") and field.axis == 0


def named(where: str, name: Any, known: Mapping[str, Any], what: str) -> str:
    """A name that is known."""
    if not isinstance(name, str):
        raise RequestError(f"{where}.name", f"expected a string, came {kind(name)}", f"Known: {listed(known)}.")
    if name not in known:
        close = close_names(name[:200], known)
        hint = f"Did you mean {close[0]}?" if close else f"Known: {listed(known)}."
        raise RequestError(f"{where}.name", f"the model has no {what} {name[:80]!r}", hint)
    return name


def wishes(parameters: Mapping[str, Any], binary: bool) -> Wishes:
    """What the parameters of a request ask for; `binary` is what its wire gives by itself."""
    if not parameters:
        return Wishes(binary) if binary else NO_WISHES
    chosen = flag("parameters.binary_data_output", parameters.get("binary_data_output", binary))
    priority = _count("parameters.priority", parameters.get("priority", 0))
    timeout_us = _count("parameters.timeout", parameters.get("timeout", 0))
    return Wishes(chosen, priority, timeout_us / 1e6 if timeout_us else math.inf)


def _count(where: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise RequestError(where, f"expected a whole number, 0 or more, came {kind(value)}", "Leave it out for none.")
    return int(value)


def supported(where: str, name: str, value: Any) -> None:
    """Refuse a parameter that would change the answer, and is not offered."""
    if name in UNSUPPORTED and value not in (0, False, ""):
        raise RequestError(f"{where}.{name}", "is not supported", UNSUPPORTED[name])


def flag(where: str, value: Any) -> bool:
    """A value that is true or false."""
    if not isinstance(value, bool):
        raise RequestError(where, f"expected true or false, came {kind(value)}", "Leave it out for its default.")
    return value


def encode(array: Array) -> bytes:
    """A tensor as the bytes of the binary extension.

    >>> encode(np.array(["ab", ""], object))
    b'\\x02\\x00\\x00\\x00ab\\x00\\x00\\x00\\x00'
    """
    if array.dtype != object:
        return array.tobytes() if LITTLE else array.astype(array.dtype.newbyteorder("<")).tobytes()
    texts = [str(value).encode() for value in array.reshape(-1).tolist()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def classified(scores: Array, count: int, labels: Sequence[str]) -> Array:
    """The best classes of every row, as the extension writes them: "value:index" or "value:index:label".

    >>> classified(np.array([[0.1, 0.9]]), 1, ("a", "b")).tolist()
    [['0.900000:1:b']]

    Raises RequestError where there are too many numbers to be ranked while others wait.
    """
    if scores.size > CLASSES_MOST:
        message = f"would rank {scores.size:,} numbers, and {CLASSES_MOST:,} may be"
        raise RequestError("classification", message, "Ask for the numbers themselves, or send fewer rows.")
    rows = scores.reshape(len(scores), -1)
    best = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :count]
    found = np.empty(best.shape, object)
    form = "{:f}" if scores.dtype.kind == "f" else "{:d}"
    for row, places in enumerate(best.tolist()):
        for rank, place in enumerate(places):
            label = f":{labels[place]}" if labels else ""
            found[row, rank] = f"{form.format(rows[row, place])}:{place}{label}"
    return found


def no_room() -> TooLarge:
    """What is said of a request for which memory did not suffice, outside of its run."""
    return TooLarge("body", "needs more memory than there is, with its answer", "Send fewer rows at a time.")


def elements(outputs: Mapping[str, Array]) -> int:
    """How many elements outputs have together."""
    return sum([values.size for values in outputs.values()])


def listed(names: Mapping[str, Any]) -> str:
    """The first dozen names."""
    shown = list(names)[:12]
    return ", ".join(shown) + (", ..." if len(names) > 12 else "")


def whole(text: str | None) -> int | None:
    """The number that a text of a request is; None for any other. Python alone would take "1_0", and other digits.

    >>> whole("12"), whole("1_2"), whole("\u00b2")
    (12, None, None)
    """
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 18 else None
