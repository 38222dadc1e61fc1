"""Turns a fragment into the bytes of one ONNX file: small, checked, and the same every time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from modelmill.errors import ModelError
from modelmill.fragment import ML, Fragment, Op
from modelmill.signature import ROWS, Field

OPSET = 20
"""The version of ONNX's operators that every file of ours is written in."""
ML_OPSET = 3
"""The version of the operators for classic machine learning that other exporters write."""
TREES_OPSET = 5
"""The one that files with a TreeEnsemble are written in: a third of the bytes of the older operators for trees."""
IR_VERSION = 9
"""The version of the file format; the one that came with the operators."""
PRODUCER = "modelmill"

Array = np.ndarray[Any, Any]


def to_onnx(fragment: Fragment, inputs: Sequence[Field], outputs: Sequence[Field]) -> bytes:
    """One ONNX file that maps the inputs to the outputs; the same fragment gives the same bytes.

    Operations and constants that no output needs are left out, as are needless Identities; inputs and outputs keep
    their names, everything between gets a short one. Raises ModelError for a graph that ONNX does not allow.
    """
    import onnx

    graph = onnx.GraphProto(name="model")
    given, wanted = [field.name for field in inputs], [field.name for field in outputs]
    tidy = _rename(_without_identities(_needed(fragment, given, wanted), given, wanted), given, wanted)
    graph.node.extend(_node(op) for op in tidy.ops)
    graph.initializer.extend(tensor(name, value) for name, value in tidy.constants.items())
    graph.input.extend(_value(field) for field in inputs)
    graph.output.extend(_value(field) for field in outputs)
    model = onnx.ModelProto(ir_version=IR_VERSION, producer_name=PRODUCER, graph=graph)
    for domain in _domains(tidy.ops):
        model.opset_import.add(domain=domain, version=_version(domain, tidy.ops))
    return _checked(model)


def _checked(model: Any) -> bytes:
    import onnx

    data: bytes = model.SerializeToString(deterministic=True)
    try:
        onnx.checker.check_model(data)
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError("graph", f"the graph is not valid ONNX: {reason}", "This is a fault of the writer.") from error
    return data


def _domains(ops: Iterable[Op]) -> list[str]:
    return sorted({"", *(op.domain for op in ops)})


def _version(domain: str, ops: Iterable[Op]) -> int:
    if domain == ML:
        return TREES_OPSET if any(op.type == "TreeEnsemble" for op in ops) else ML_OPSET
    return OPSET if not domain else 1


def _needed(fragment: Fragment, inputs: Sequence[str], outputs: Sequence[str]) -> Fragment:
    """The operations and constants that the outputs need, in their order."""
    made = {name for op in fragment.ops for name in op.outputs}
    for name in outputs:
        if name not in made:
            raise ModelError("graph", f"no operation writes the output {name!r}", "Decoding names the outputs.")
    wanted, kept = set(outputs), []
    for op in reversed(fragment.ops):
        if wanted.intersection(op.outputs):
            wanted.update(name for name in op.inputs if name)
            kept.append(op)
    lacking = wanted - made - set(fragment.constants) - set(inputs)
    if lacking:
        raise ModelError("graph", f"nothing gives the value {min(lacking)!r}", f"Inputs: {', '.join(inputs)}.")
    constants = {name: value for name, value in fragment.constants.items() if name in wanted}
    return Fragment(tuple(reversed(kept)), constants)


def _without_identities(fragment: Fragment, inputs: Sequence[str], outputs: Sequence[str]) -> Fragment:
    """The same graph without Identities, but for those from an input, a constant or an output to an output."""
    fixed = {*inputs, *outputs, *fragment.constants}
    same: dict[str, str] = {}
    kept: list[Op] = []
    for op in fragment.ops:
        if op.type != "Identity" or op.domain:
            kept.append(op)
            continue
        source, result = _follow(same, op.inputs[0]), op.outputs[0]
        if result not in outputs:
            same[result] = source
        elif source not in fixed:
            same[source] = result
        else:
            kept.append(op)
    ops = tuple(_renamed(op, {name: _follow(same, name) for name in (*op.inputs, *op.outputs)}) for op in kept)
    return Fragment(ops, fragment.constants)


def _follow(same: Mapping[str, str], name: str) -> str:
    while name in same:
        name = same[name]
    return name


def _renamed(op: Op, names: Mapping[str, str]) -> Op:
    inputs, outputs = (tuple(names[name] if name else "" for name in side) for side in (op.inputs, op.outputs))
    return Op(op.type, inputs, outputs, op.attributes, op.domain)


def _rename(fragment: Fragment, inputs: Sequence[str], outputs: Sequence[str]) -> Fragment:
    """Short names in the order of use; equal constants that are no weights become one."""
    names = {name: name for name in (*inputs, *outputs)}
    constants: dict[str, Array] = {}
    seen: dict[Any, str] = {}
    fresh = _fresh(set(names))
    for op in fragment.ops:
        for name in (*op.inputs, *op.outputs):
            if not name or name in names:
                continue
            value = fragment.constants.get(name)
            key = name if value is None else _key(name, value)
            if key not in seen:
                seen[key] = next(fresh)
                if value is not None:
                    constants[seen[key]] = value
            names[name] = seen[key]
    return Fragment(tuple(_renamed(op, names) for op in fragment.ops), constants)


def _key(name: str, value: Array) -> Any:
    """What a constant is told by: weights by their name, as quantizers want one each; the rest by their content."""
    if value.dtype.kind == "f":
        return name
    return (str(value.dtype), value.shape, tuple(value.ravel().tolist()))


def _fresh(taken: set[str]) -> Iterator[str]:
    """Short names that are not taken, without end."""
    number = 0
    while True:
        name = f"v{number}"
        number += 1
        if name not in taken:
            yield name


def _node(op: Op) -> Any:
    import onnx

    node = onnx.NodeProto(op_type=op.type, domain=op.domain, input=op.inputs, output=op.outputs)
    for name in sorted(op.attributes):
        _attribute(node.attribute.add(name=name), op.attributes[name], f"{op.type}.{name}")
    return node


def _attribute(proto: Any, value: Any, where: str) -> None:
    """Fill in an attribute; numpy arrays go in as lists, of floats or of ints by their type."""
    import onnx

    kinds = onnx.AttributeProto
    if isinstance(value, onnx.GraphProto):
        proto.type = kinds.GRAPH
        proto.g.CopyFrom(value)
    elif isinstance(value, onnx.TensorProto):
        proto.type = kinds.TENSOR
        proto.t.CopyFrom(value)
    elif isinstance(value, str | bytes):
        proto.type, proto.s = kinds.STRING, value.encode() if isinstance(value, str) else value
    elif isinstance(value, bool | int | np.integer | np.bool_):
        proto.type, proto.i = kinds.INT, int(value)
    elif isinstance(value, float | np.floating):
        proto.type, proto.f = kinds.FLOAT, float(value)
    else:
        _list_attribute(proto, value, where)


def _list_attribute(proto: Any, value: Any, where: str) -> None:
    import onnx

    kinds = onnx.AttributeProto
    array = np.asarray(value)
    if array.ndim != 1:
        raise ModelError(where, f"an attribute of shape {array.shape}", "Attributes are single values or flat lists.")
    if array.dtype.kind in "OUS":
        proto.type = kinds.STRINGS
        proto.strings.extend(item if isinstance(item, bytes) else str(item).encode() for item in array.tolist())
    elif array.dtype.kind == "f" and array.size:
        proto.type = kinds.FLOATS
        proto.floats.extend(array.tolist())
    else:
        proto.type = kinds.INTS
        proto.ints.extend(array.astype(np.int64).tolist())


def tensor(name: str, value: Array) -> Any:
    """The ONNX tensor of an array: raw little-endian bytes, or strings."""
    import onnx

    if value.dtype.kind in "OUS":
        proto = onnx.TensorProto(name=name, data_type=onnx.TensorProto.STRING, dims=value.shape)
        proto.string_data.extend(str(item).encode() for item in value.ravel().tolist())
        return proto
    kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    data = np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes()
    return onnx.TensorProto(name=name, data_type=kind, dims=value.shape, raw_data=data)


def element_type(field: Field) -> int:
    """The number that ONNX gives to the type of a field."""
    import onnx

    names = {"FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE", "BYTES": "STRING"}
    return int(onnx.TensorProto.DataType.Value(names.get(field.datatype, field.datatype)))


def _value(field: Field) -> Any:
    import onnx

    shape = [
        size if size >= 0 else ROWS if axis == field.axis else f"{field.name}_{axis}"
        for axis, size in enumerate(field.shape)
    ]
    return onnx.helper.make_tensor_value_info(field.name, element_type(field), shape)
