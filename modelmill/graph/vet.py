"""Looks through an ONNX file from outside for what would harm or mislead whoever runs it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

import numpy as np

from modelmill.contracts import Array
from modelmill.errors import ModelError
from modelmill.fragment import ML
from modelmill.graph.references import DAMAGED, check_functions, check_names, check_values
from modelmill.graph.scopes import graphs, nodes, reads

KNOWN = frozenset({"", "ai.onnx", ML, "com.microsoft"})
"""Domains whose operators the runtime brings with it."""


class Held(NamedTuple):
    """How a tensor of a type keeps its elements."""

    field: str = "int32_data"
    """Where they stand if they are not raw bytes."""
    size: float = 1
    """Bytes of an element."""
    entries: float = 1
    """Entries of that field for an element."""


HELD = {
    "FLOAT": Held("float_data", 4),
    "DOUBLE": Held("double_data", 8),
    "COMPLEX64": Held("float_data", 8, 2),
    "COMPLEX128": Held("double_data", 16, 2),
    "INT64": Held("int64_data", 8),
    "UINT64": Held("uint64_data", 8),
    "UINT32": Held("uint64_data", 4),
    "INT32": Held(size=4),
    **dict.fromkeys(("INT16", "UINT16", "FLOAT16", "BFLOAT16"), Held(size=2)),
    **dict.fromkeys(("INT4", "UINT4", "FLOAT4E2M1"), Held(size=0.5, entries=0.5)),
    **dict.fromkeys(("INT2", "UINT2"), Held(size=0.25, entries=0.25)),
}
"""The types that do not take a byte an element."""

FLOATS = frozenset({"FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16"})
"""Types with fractions; those of 8 bits, whose names go on, are some too."""

LEARNED = frozenset({"coefficients", "intercepts", "rho", "support_vectors", "base_values", "class_weights"})
LEARNED |= {"target_weights", "offset", "scale"}
"""Where operators of classic machine learning have weights: elsewhere NaN stands for a missing value."""

BLOCK = 2**20
"""Numbers that are looked at together, so that large weights are not copied once more."""


def vet(model: Any, where: str) -> None:
    """Refuse a model that is not what it says: names, versions, operators, order, sizes of tensors, weights.

    Nodes that stand in no order in which they could run are put into one. Raises ModelError, naming the culprit.
    """
    check_names(model, where)
    _check_versions(model, where)
    _check_domains(model, where)
    check_functions(model, where)
    for graph in graphs(model):
        _sort(graph, where)
    check_values(model.graph, where)
    for tensor in tensors(model):
        _check_tensor(tensor, f"{where}: tensor {tensor.name[:80]!r}")
    for node in _nodes(model):
        for attribute in node.attribute:
            if node.domain != ML or attribute.name in LEARNED:
                spot = f"{where}: {attribute.name[:80]!r} of {_called(node)}"
                _check_finite(np.array(attribute.floats, np.float32), spot)


def tensors(model: Any) -> Iterator[Any]:
    """All tensors of a model: initializers and attributes, those in inner graphs and functions too."""
    for graph in graphs(model):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in _nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)


def _nodes(model: Any) -> list[Any]:
    """The nodes of all graphs and functions."""
    return [*nodes(model), *(node for function in model.functions for node in function.node)]


def _called(node: Any) -> str:
    """A node by its operator and what it gives: most have no names."""
    return f"the {node.op_type[:40]} that gives {', '.join(node.output)[:80]!r}"


def size_of(tensor: Any, where: str) -> int:
    """How many bytes the shape and the type of a tensor make."""
    if any(size < 0 for size in tensor.dims):
        raise ModelError(where, f"it has the shape {list(tensor.dims)}", "Export the model anew.")
    elements: int = math.prod(tensor.dims)
    return math.ceil(elements * HELD.get(_type(tensor, where), Held()).size)


def _type(tensor: Any, where: str) -> str:
    import onnx

    known: dict[int, str] = {number: name for name, number in onnx.TensorProto.DataType.items()}
    if tensor.data_type not in known or not tensor.data_type:
        message = f"it is of the type {tensor.data_type}, which this onnx does not know"
        raise ModelError(where, message, "Export the model for an older version of ONNX.")
    return known[tensor.data_type]


def _check_versions(model: Any, where: str) -> None:
    import onnx

    if model.ir_version > onnx.IR_VERSION:
        message = f"the file is of format {model.ir_version}, and {onnx.IR_VERSION} is the newest that is known here"
        raise ModelError(where, message, "Export it for an older version of ONNX, or update onnx and onnxruntime.")
    newest = {"com.microsoft": 1}
    for domain, version in onnx.helper.OP_SET_ID_VERSION_MAP:
        newest[domain] = max(version, newest.get(domain, 0))
    for opset in model.opset_import:
        most = newest.get(opset.domain or "ai.onnx", opset.version)
        if opset.version > most:
            of = f" of {opset.domain}" if opset.domain else ""
            message = f"the file wants opset {opset.version}{of}, and {most} is the newest that is known here"
            raise ModelError(where, message, f"Export it with opset {most} or older, or update onnx and onnxruntime.")
    said = {opset.domain or "ai.onnx" for opset in model.opset_import}
    if "ai.onnx" not in said and (not said or any(node.domain in ("", "ai.onnx") for node in nodes(model))):
        message = "the file does not say in which version (opset) of ONNX's operators it is written"
        raise ModelError(where, message, DAMAGED)


def _check_domains(model: Any, where: str) -> None:
    local = {(function.domain, function.name) for function in model.functions}
    for node in _nodes(model):
        if node.domain not in KNOWN and (node.domain, node.op_type) not in local:
            message = f"the operator {node.op_type[:80]!r} is of the domain {node.domain[:80]!r}, no standard one"
            hint = "Export the model with standard operators; code of a file's own is not run."
            raise ModelError(where, message, hint)


def _sort(graph: Any, where: str) -> None:
    """Put each node behind those that it reads of, where they are not so already; names a circle where there is one."""
    makers: dict[str, int] = {}
    for place, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in makers:
                raise ModelError(where, f"the value {name[:80]!r} is made by two nodes", "Export the model anew.")
            makers[name] = place
    needs = {at: {makers[name] for name in reads(node) if name in makers} for at, node in enumerate(graph.node)}
    if all(max(before, default=-1) < place for place, before in needs.items()):
        return
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        circle = " -> ".join(graph.node[place].op_type[:40] for place in error.args[1][:8])
        raise ModelError(where, f"the graph runs in a circle: {circle}", "Export the model anew.") from None
    put = [type(graph.node[place]).FromString(graph.node[place].SerializeToString()) for place in order]
    del graph.node[:]
    graph.node.extend(put)


def _check_tensor(tensor: Any, where: str) -> None:
    """Refuse a tensor that declares another size than it has, and one with weights that are no numbers."""
    kind = _type(tensor, where)
    held = HELD.get(kind, Held())
    if tensor.HasField("raw_data"):
        came, wanted, unit = len(tensor.raw_data), size_of(tensor, where), "bytes"
    else:
        entries = tensor.string_data if kind == "STRING" else getattr(tensor, held.field)
        came, wanted, unit = len(entries), math.ceil(math.prod(tensor.dims) * held.entries), "numbers"
    if came != wanted:
        message = f"it declares the shape {list(tensor.dims)}, {wanted:,} {unit}, and holds {came:,}"
        raise ModelError(where, message, "The file is damaged, or made to harm: export the model anew.")
    if kind in FLOATS or kind.startswith("FLOAT8"):
        _check_finite(_floats(tensor, kind), where)


def _floats(tensor: Any, kind: str) -> Array:
    from onnx import helper

    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    if tensor.HasField("raw_data"):
        return np.frombuffer(tensor.raw_data, dtype.newbyteorder("<"))
    entries = getattr(tensor, HELD.get(kind, Held()).field)
    if kind in ("FLOAT", "DOUBLE"):
        return np.fromiter(entries, dtype, len(entries))
    return np.fromiter(entries, np.dtype(f"u{dtype.itemsize}"), len(entries)).view(dtype)


def _check_finite(values: Array, where: str) -> None:
    """Refuse NaN in weights, and infinities among them or in the place of all.

    A single NaN may stand for a missing value, and a mask is made of infinities, most are below 0, and zeros or ones.
    """
    blocks = [values[start : start + BLOCK] for start in range(0, len(values), BLOCK)]
    if all(np.isfinite(block).all() for block in blocks):
        return
    if len(values) > 1 and any(np.isnan(block).any() for block in blocks):
        raise ModelError(where, "it holds NaN", "Training went astray: export an earlier checkpoint.")
    others = any((np.isfinite(block) & (block != 0) & (block != 1)).any() for block in blocks)
    alone = not any(np.isfinite(block).any() for block in blocks)
    if others or (len(values) > 1 and alone and any((block > 0).any() for block in blocks)):
        raise ModelError(where, "it holds infinite weights", "Training went astray: export an earlier checkpoint.")
