"""Goes on where the preparation of a model ended."""

from __future__ import annotations

from dataclasses import replace

from modelmill.fragment import Fragment, Op, Writer
from modelmill.graph.export import FEATURES
from modelmill.model import Model


def reopened(prepare: Fragment) -> tuple[Writer, str]:
    """A writer that goes on after a preparation, and the name of the value that it ended in."""
    name = f"{FEATURES}_before"
    while any(name in op.outputs for op in prepare.ops):
        name += "_"
    ops = tuple(
        Op(op.type, op.inputs, tuple(name if o == FEATURES else o for o in op.outputs), op.attributes, op.domain)
        for op in prepare.ops
    )
    return Writer(Fragment(ops, prepare.constants)), name


def prepared(model: Model, writer: Writer, value: str) -> Model:
    """The model with the writer's operations as its preparation, which ends in the value."""
    writer.rename(value, FEATURES)
    return replace(model, parts=(replace(model.part, prepare=writer.fragment()),))
