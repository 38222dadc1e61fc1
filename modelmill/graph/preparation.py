"""A preparation as a small ONNX file of its own, from raw inputs to features: so it is kept beside a body's weights."""

from __future__ import annotations

from collections.abc import Sequence

from modelmill.errors import ModelError
from modelmill.fragment import Fragment, Writer
from modelmill.graph import foreign
from modelmill.graph.build import to_onnx
from modelmill.graph.clean import load
from modelmill.graph.export import FEATURES, features_shape
from modelmill.signature import Field


def write(prepare: Fragment, inputs: Sequence[Field]) -> bytes:
    """The preparation as an ONNX file whose only output is `features`."""
    if not any(FEATURES in op.outputs for op in prepare.ops):
        raise ModelError("graph.preparation", "the part has no preparation of its own", "Use the graph as it is.")
    shape = features_shape(prepare, inputs)
    if shape is None:
        raise ModelError("graph.preparation", "the shape of the features cannot be told", "Prepare the rows anew.")
    rows = max((field.rows for field in inputs), default=-1)
    return to_onnx(prepare, inputs, [Field(FEATURES, "FP32", (rows, *shape))])


def read(data: bytes) -> Fragment:
    """The preparation in such a file, its inputs by their names."""
    proto = load(data)
    names = [value.name for value in proto.graph.input]
    writer = Writer(taken=[*names, FEATURES])
    (made,) = foreign.inline(proto, {name: name for name in names}, writer)
    writer.rename(made, FEATURES)
    return writer.fragment()
