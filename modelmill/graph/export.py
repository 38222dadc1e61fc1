"""Makes one ONNX file of a whole model: preparation, body and decoding, from raw rows to named outputs."""

from __future__ import annotations

from collections.abc import Sequence

from modelmill.contracts import Task
from modelmill.errors import ModelError
from modelmill.fragment import Fragment, Writer
from modelmill.graph.build import to_onnx
from modelmill.graph.emit import emit
from modelmill.model import Model, Part
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
    writer = Writer(part.prepare)
    raw, form = _body(part, signature, writer)
    task.decode(raw, form, signature, writer)
    return to_onnx(writer.fragment(), signature.inputs, signature.outputs)


def _body(part: Part, signature: Signature, writer: Writer) -> tuple[str, str]:
    """Write the body; what an attempt of ours leaves behind is dropped with all that no output needs."""
    from modelmill.graph import foreign

    try:
        return emit(part.body, FEATURES, writer, signature.classes)
    except ModelError:
        shape = features_shape(part.prepare, signature.inputs) if part.body.kind == "network" else None
        if shape is None:
            raise
    raw = foreign.network(part.body.value, FEATURES, shape, writer)
    return raw, "logits" if signature.classes else "value"


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
