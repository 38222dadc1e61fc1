"""Pipelines: models that answer one request together, the outputs of one being inputs of the next.

A pipeline is published as a version like any other. Its one file names its steps by number, so that what was published
is what answers; its signature follows from theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from modelmill.errors import SpecError
from modelmill.signature import Field, Signature

T = TypeVar("T")

FILE = "pipeline.json"
"""The file of a version that is a pipeline; such a version has no graph."""


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model in a pipeline.

    model: NAME@NUMBER; before it is published also NAME or NAME@ALIAS. inputs: every input of the model, and the tensor
    that it takes. outputs: outputs of the model, and what their tensors are called; one that is not named is not used.
    """

    model: str
    inputs: dict[str, str]
    outputs: dict[str, str]

    def given(self, tensors: Mapping[str, T]) -> dict[str, T]:
        """The inputs of the model, of the tensors that there are."""
        return {name: tensors[tensor] for name, tensor in self.inputs.items()}

    def made(self, outputs: Mapping[str, T]) -> dict[str, T]:
        """The tensors that the outputs of the model are."""
        return {tensor: outputs[name] for name, tensor in self.outputs.items()}


class Pipeline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Steps in the order in which they can run, and which tensors are the answer."""

    steps: tuple[Step, ...]
    outputs: tuple[str, ...] = ()
    """Empty: whatever no step takes."""


def plan(pipeline: Pipeline, signatures: Mapping[str, Signature]) -> tuple[Pipeline, Signature]:
    """The pipeline with its steps in an order in which they can run, and what it takes and gives.

    signatures: of every model that a step names. Raises SpecError, saying which step, what came and what was wanted.
    """
    if not pipeline.steps:
        raise SpecError("pipeline", "has no steps", "Write at least one [[steps]].")
    for number, step in enumerate(pipeline.steps):
        _check_names(f"steps[{number}]", step, signatures[step.model])
    made = _made(pipeline, signatures)
    steps = _ordered(pipeline.steps, made)
    inputs = _taken(steps, signatures, made)
    rows = max(field.rows for step in steps for field in signatures[step.model].inputs)
    inputs = {name: _of_rows(field, rows) for name, field in inputs.items()}
    outputs = tuple(_of_rows(field, rows) for field in _given(pipeline, made))
    first = steps[-1]
    answers = signatures[first.model]
    alone = all(first.outputs.get(field.name) == field.name for field in outputs)
    signature = Signature(
        task=answers.task if alone else "compute",
        inputs=tuple(inputs.values()),
        outputs=outputs,
        classes=answers.classes if alone else (),
        target=answers.target if alone else "",
        example=_example(steps, signatures, inputs),
        series=any(signatures[step.model].series for step in steps),
    )
    return Pipeline(steps, tuple(field.name for field in outputs)), signature


def _check_names(where: str, step: Step, signature: Signature) -> None:
    """Refuse a step whose maps do not fit its model."""
    takes = {field.name for field in signature.inputs}
    gives = {field.name for field in signature.outputs}
    for name in step.inputs:
        if name not in takes:
            raise SpecError(
                f"{where}.inputs", f"{step.model} takes no {name!r}", f"It takes {', '.join(sorted(takes))}."
            )
    missing = sorted(takes - step.inputs.keys())
    if missing:
        hint = "Name a tensor for every input."
        raise SpecError(f"{where}.inputs", f"{step.model} takes {', '.join(missing)}, too", hint)
    for name in step.outputs:
        if name not in gives:
            hint = f"It gives {', '.join(sorted(gives))}."
            raise SpecError(f"{where}.outputs", f"{step.model} gives no {name!r}", hint)
    if not step.outputs:
        raise SpecError(f"{where}.outputs", f"nothing that {step.model} gives is used", "Name one of its outputs.")


def _made(pipeline: Pipeline, signatures: Mapping[str, Signature]) -> dict[str, tuple[Step, Field]]:
    """Every tensor that a step gives: the step, and the field there."""
    made: dict[str, tuple[Step, Field]] = {}
    for number, step in enumerate(pipeline.steps):
        fields = {field.name: field for field in signatures[step.model].outputs}
        for name, tensor in step.outputs.items():
            if tensor in made:
                hint = f"It is an output of {made[tensor][0].model} already; call this one otherwise."
                raise SpecError(f"steps[{number}].outputs", f"the tensor {tensor!r} is given twice", hint)
            made[tensor] = (step, fields[name])
    return made


def _ordered(steps: Sequence[Step], made: Mapping[str, tuple[Step, Field]]) -> tuple[Step, ...]:
    """The steps, each after those whose tensors it takes. Raises SpecError where they wait for each other."""
    left = list(steps)
    ready: list[Step] = []
    while left:
        free = [step for step in left if not any(made[t][0] in left for t in step.inputs.values() if t in made)]
        if not free:
            circle = ", ".join(step.model for step in left)
            raise SpecError("pipeline", f"the steps wait for each other: {circle}", "Let one of them begin.")
        ready += free
        left = [step for step in left if step not in free]
    return tuple(ready)


def _taken(
    steps: Sequence[Step], signatures: Mapping[str, Signature], made: Mapping[str, tuple[Step, Field]]
) -> dict[str, Field]:
    """What the pipeline takes from outside; on the way, what passes from step to step is checked."""
    inputs: dict[str, Field] = {}
    for step in steps:
        fields = {field.name: field for field in signatures[step.model].inputs}
        for name, tensor in step.inputs.items():
            field = fields[name]
            where = f"{step.model}.{name}"
            if tensor in made:
                giver, given = made[tensor]
                _check_pair(where, field, f"{giver.model}.{given.name}", given)
            elif tensor in inputs:
                inputs[tensor] = _both(where, field, inputs[tensor])
            else:
                inputs[tensor] = msgspec.structs.replace(field, name=tensor)
    if not inputs:
        raise SpecError("pipeline", "takes nothing from outside", "Let a step take a tensor that no step gives.")
    return inputs


def _check_pair(where: str, taken: Field, whence: str, given: Field) -> None:
    """Refuse a tensor that its taker cannot take."""
    same = taken.axis == given.axis and len(taken.shape) == len(given.shape)
    fits = same and all(-1 in pair or pair[0] == pair[1] for pair in zip(taken.shape, given.shape, strict=True))
    if taken.datatype != given.datatype or not fits:
        came = f"{given.datatype} {list(given.shape)} comes from {whence}"
        raise SpecError(where, f"{came}, {taken.datatype} {list(taken.shape)} is wanted", "-1 is any size.")


def _both(where: str, one: Field, other: Field) -> Field:
    """A tensor from outside that two steps take: as narrow as the narrower one wants it."""
    _check_pair(where, one, other.name, other)
    shape = tuple(max(pair) for pair in zip(one.shape, other.shape, strict=True))
    return msgspec.structs.replace(other, shape=shape, nullable=one.nullable and other.nullable)


def _given(pipeline: Pipeline, made: Mapping[str, tuple[Step, Field]]) -> tuple[Field, ...]:
    """The fields of the answer."""
    used = {tensor for step in pipeline.steps for tensor in step.inputs.values()}
    names = pipeline.outputs or tuple(tensor for tensor in made if tensor not in used)
    for name in names:
        if name not in made:
            raise SpecError("outputs", f"no step gives {name!r}", f"There are {', '.join(made)}.")
    if not names:
        raise SpecError("outputs", "every tensor is taken by a step", 'Name the answer: outputs = ["label"]')
    return tuple(msgspec.structs.replace(made[name][1], name=name) for name in dict.fromkeys(names))


def _of_rows(field: Field, rows: int) -> Field:
    """A field that takes or gives so many rows a call, as the step does that takes no other number; -1 is any."""
    if field.axis is None or field.rows > 0:
        return field
    shape = tuple(rows if place == field.axis else size for place, size in enumerate(field.shape))
    return msgspec.structs.replace(field, shape=shape)


def _example(
    steps: Sequence[Step], signatures: Mapping[str, Signature], inputs: Mapping[str, Field]
) -> tuple[object, ...]:
    """A row for what comes from outside, where the steps have examples."""
    found: dict[str, object] = {}
    for step in steps:
        signature = signatures[step.model]
        for field, value in zip(signature.inputs, signature.example, strict=False):
            found.setdefault(step.inputs[field.name], value)
    return tuple(found[name] for name in inputs) if inputs.keys() <= found.keys() else ()


def read(data: bytes) -> Pipeline:
    """A pipeline from its file."""
    return msgspec.json.decode(data, type=Pipeline)
