"""Takes out of an ONNX file what says nothing about what it computes, so that its bytes count and digest truly."""

from __future__ import annotations

from typing import Any

from modelmill.errors import ModelError
from modelmill.graph.build import PRODUCER
from modelmill.graph.wire import serialized, weighed


def load(data: bytes) -> Any:
    """The ONNX model in some bytes, all of its tensors within. Raises ModelError for anything else."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load_from_string(data)
    except DecodeError as error:
        raise ModelError("graph", f"{len(data)} bytes that are no ONNX file", "Give a .onnx file.") from error
    if not model.graph.node or not model.graph.output:
        raise ModelError("graph", "an ONNX file without operations or outputs", "Export the model anew.")
    return model


def strip(data: bytes) -> bytes:
    """The same graph without doc strings, metadata, names of operations, inner shapes and the producer's name.

    Doing it twice changes nothing. Tensors become raw bytes. Raises ModelError for tensors in files of their own.
    """
    return stripped(load(data))


def stripped(model: Any) -> bytes:
    """The bytes of a model without all that, which is taken out of the model itself: no copy is made of it."""
    _strip(model)
    return serialized(model)


def size(model: Any) -> int:
    """How many bytes that would be."""
    _strip(model)
    return weighed(model)


def _strip(model: Any) -> None:
    model.producer_name = PRODUCER
    model.ir_version = max(model.ir_version, 4)  # before it, constants had to be inputs as well
    _clear(model, "producer_version", "doc_string", "domain", "model_version", "metadata_props")
    for function in model.functions:
        _clear(function, "doc_string", "metadata_props", "value_info")
        _strip_nodes(function.node)
    _strip_graph(model.graph)
    model.graph.name = "model"
    opsets = sorted((opset.domain, opset.version) for opset in model.opset_import)
    del model.opset_import[:]
    for domain, version in opsets:
        model.opset_import.add(domain=domain, version=version)


def _clear(proto: Any, *fields: str) -> None:
    """Take the fields out: an empty string that is set would still be written."""
    for field in fields:
        proto.ClearField(field)


def _strip_graph(graph: Any) -> None:
    _clear(graph, "doc_string", "value_info", "metadata_props")
    for value in (*graph.input, *graph.output):
        _clear(value, "doc_string", "metadata_props")
    for tensor in graph.initializer:
        _strip_tensor(tensor)
    _strip_nodes(graph.node)


def _strip_nodes(nodes: Any) -> None:
    for node in nodes:
        _clear(node, "name", "doc_string", "metadata_props")
        for attribute in node.attribute:
            _clear(attribute, "doc_string")
            if attribute.HasField("t"):
                _strip_tensor(attribute.t)
            if attribute.HasField("g"):
                _strip_graph(attribute.g)


def _strip_tensor(tensor: Any) -> None:
    """The tensor as raw bytes, without words."""
    import onnx

    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ModelError("graph", f"the tensor {tensor.name!r} lies in a file of its own", "Save it in one file.")
    _clear(tensor, "doc_string", "metadata_props")
    if tensor.data_type == onnx.TensorProto.STRING or tensor.HasField("raw_data"):
        return
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
