"""Makes one ONNX file of a whole model: preparation, body and decoding, from raw rows to named outputs."""

from __future__ import annotations

from collections.abc import Sequence

from modelmill.contracts import Task
from modelmill.errors import ModelError
from modelmill.fragment import Fragment, Writer
from modelmill.graph.build import to_onnx
from modelmill.graph.emit import emit
from modelmill.model import Body, Model
from modelmill.signature import Field, Signature

FEATURES = "features"
"""The value in which preparation ends and the body begins."""


def export(model: Model, task: Task) -> bytes:
    """The model as one ONNX file that takes raw rows and gives the task's outputs; a graph body is given as it is.

    A torch module that we do not write ourselves goes through torch.onnx, which takes over a second.
    """
    part, signature = model.part, model.signature
    if part.body.kind == "graph":
        data: bytes = part.body.value
        return data
    try:
        return _write(part.prepare, part.body, signature, task)
    except ModelError:
        shape = features_shape(part.prepare, signature.inputs) if part.body.kind == "network" else None
        if shape is None:
            raise
        return _write_foreign(part.prepare, part.body, signature, task, shape)


def _write(prepare: Fragment, body: Body, signature: Signature, task: Task) -> bytes:
    writer = Writer(prepare)
    raw, form = emit(body, FEATURES, writer, signature.classes)
    task.decode(raw, form, signature, writer)
    return to_onnx(writer.fragment(), signature.inputs, signature.outputs)


def _write_foreign(prepare: Fragment, body: Body, signature: Signature, task: Task, shape: tuple[int, ...]) -> bytes:
    from modelmill.graph import foreign

    writer = Writer(prepare)
    raw = foreign.network(body.value, FEATURES, shape, writer)
    task.decode(raw, "logits" if signature.classes else "value", signature, writer)
    return to_onnx(writer.fragment(), signature.inputs, signature.outputs)


def features_shape(prepare: Fragment, inputs: Sequence[Field]) -> tuple[int, ...] | None:
    """The shape of a row's features, as ONNX infers it; None where it cannot."""
    import onnx

    # the declared shape is a stand-in: inference tells the real one
    proto = onnx.load_from_string(to_onnx(prepare, inputs, [Field(FEATURES, "FP32", (-1,))]))
    del proto.graph.output[0].type.tensor_type.shape.dim[:]
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(proto).graph.output[0].type.tensor_type
    sizes = tuple(axis.dim_value for axis in inferred.shape.dim)[1:]
    return sizes if sizes and all(sizes) else None
