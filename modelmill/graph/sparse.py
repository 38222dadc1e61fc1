"""Writes the sparse tensors of an ONNX file out: what comes after knows tensors of one kind."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from modelmill.errors import ModelError
from modelmill.graph.external import MOST
from modelmill.graph.references import DAMAGED
from modelmill.graph.scopes import graphs, nodes


def without_sparse(model: Any, where: str) -> list[str]:
    """Make plain tensors of the sparse ones, initializers and Constants, in place, and give their names.

    Raises ModelError, naming the tensor, for places that are none and for more than one ONNX file may hold.
    """
    written = []
    for graph in graphs(model):
        for sparse in graph.sparse_initializer:
            graph.initializer.append(_dense(sparse, sparse.values.name, where))
            written.append(sparse.values.name)
        del graph.sparse_initializer[:]
    for node in (*nodes(model), *(node for function in model.functions for node in function.node)):
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "sparse_value":
                tensor = _dense(attribute.sparse_tensor, node.output[0], where)
                attribute.Clear()
                attribute.name, attribute.type = "value", attribute.TENSOR
                attribute.t.CopyFrom(tensor)
                written.append(node.output[0])
    return written


def _dense(sparse: Any, name: str, where: str) -> Any:
    from onnx import TensorProto, numpy_helper

    spot, shape = f"{where}: sparse tensor {name[:80]!r}", tuple(sparse.dims)
    if sparse.values.data_type == TensorProto.STRING:
        raise ModelError(spot, "it holds texts, and numbers were wanted", "Export it as a plain tensor.")
    values = numpy_helper.to_array(sparse.values).ravel()
    size = math.prod(shape) * values.itemsize
    if min(shape, default=0) < 0 or size > MOST:
        message = f"it has the shape {list(shape)}, {size:,} bytes when written out, and {MOST:,} are the most"
        raise ModelError(spot, message, "One ONNX file holds 2 GB: make it a smaller one.")
    places = _places(numpy_helper.to_array(sparse.indices), shape)
    whole = sparse.indices.data_type == TensorProto.INT64
    if not whole or len(places) != len(values) or np.any((places < 0) | (places >= math.prod(shape))):
        message = f"its places do not lie in the shape {list(shape)}, or are not as many as its {len(values)} numbers"
        raise ModelError(spot, message, DAMAGED)
    made = np.zeros(math.prod(shape), values.dtype)
    made[places] = values
    return numpy_helper.from_array(made.reshape(shape), name)


def _places(indices: Any, shape: tuple[int, ...]) -> Any:
    """Where the numbers of a tensor lie when it is flat: indices say so, or the place on every axis; -1 is nowhere."""
    if indices.ndim < 2:
        return indices.ravel()
    inside = len(shape) and indices.shape[1] == len(shape) and np.all((indices >= 0) & (indices < shape))
    return np.ravel_multi_index(tuple(indices.T), shape) if inside else np.full(len(indices), -1)
