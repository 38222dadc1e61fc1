"""The models that Triton's examples and tests ask for, made here: real ONNX files of a few hundred bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from onnx import NodeProto, TensorProto, ValueInfoProto, checker, helper

INT32, INT8, TEXT, UINT64 = TensorProto.INT32, TensorProto.INT8, TensorProto.STRING, TensorProto.UINT64
INT64, FP32, FP16 = TensorProto.INT64, TensorProto.FLOAT, TensorProto.FLOAT16

Graph = tuple[list[NodeProto], list[ValueInfoProto], list[ValueInfoProto]]
"""Nodes, inputs, outputs."""


def make(folder: Path, graphs: Mapping[str, Graph]) -> list[Path]:
    """All of them as NAME.onnx in a folder."""
    paths = []
    for name, (nodes, inputs, outputs) in graphs.items():
        graph = helper.make_graph(nodes, name, inputs, outputs)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        checker.check_model(model)
        paths.append(folder / f"{name}.onnx")
        paths[-1].write_bytes(model.SerializeToString())
    return paths


def examples() -> dict[str, Graph]:
    """What Triton's examples ask for."""
    return {
        "simple": added(INT32),
        "simple_int8": added(INT8),
        "simple_string": added(TEXT),
        "simple_identity": same(TEXT, "n"),
        "simple_sequence": sequence(),
        "simple_dyna_sequence": dyna_sequence(),
    }


def tested() -> dict[str, Graph]:
    """What Triton's tests ask for: the examples' models, and more."""
    return {
        **examples(),
        "simple_identity_int64": same(INT64, "n"),
        "onnx_zero_1_float32": same(FP32, "n"),
        "onnx_zero_1_float32_queue": same(FP32, "n"),
        "onnx_zero_1_float16": same(FP16, "n", "m"),
        "onnx_zero_1_object": same(TEXT, "n"),
        "onnx_zero_1_object_1_element": same(TEXT, 1),
        "onnx_zero_3_float32": same(FP32, "n", count=3),
        "onnx_object_int32_int32": added(TEXT, INT32),
        "pt_identity": same(FP32, 8),
        "identity_fp32": same(FP32, "n"),
        "identity_bytes": same(TEXT, "n"),
        "string_identity": same(TEXT),
        "input_all_required": required(),
        "nan_inf_output": unreal(),
    }


def added(kind: int, gives: int | None = None) -> Graph:
    """Sixteen numbers a row: the sum and the difference of two inputs."""
    gives = kind if gives is None else gives
    cast = [helper.make_node("Cast", [f"INPUT{i}"], [f"in{i}"], to=INT32) for i in (0, 1)]
    done = [helper.make_node(op, ["in0", "in1"], [op]) for op in ("Add", "Sub")]
    back = [helper.make_node("Cast", [op], [f"OUTPUT{i}"], to=gives) for i, op in enumerate(("Add", "Sub"))]
    return [*cast, *done, *back], values(kind, 16, "INPUT0", "INPUT1"), values(gives, 16, "OUTPUT0", "OUTPUT1")


def same(kind: int, *row: int | str, count: int = 1) -> Graph:
    """Inputs, as they are."""
    nodes = [helper.make_node("Identity", [f"INPUT{i}"], [f"OUTPUT{i}"]) for i in range(count)]
    inputs, outputs = ([tensor(f"{side}{i}", kind, *row) for i in range(count)] for side in ("INPUT", "OUTPUT"))
    return nodes, inputs, outputs


def required() -> Graph:
    """The sum of three inputs of one number a row."""
    node = helper.make_node("Sum", ["INPUT0", "INPUT1", "INPUT2"], ["OUTPUT0"])
    return [node], [tensor(f"INPUT{i}", FP32) for i in range(3)], [tensor("OUTPUT0", FP32)]


def unreal() -> Graph:
    """Whatever comes: no number, endless ones, and three that are neither."""
    node = helper.make_node("Constant", [], ["OUTPUT0"], value_floats=[math.nan, math.inf, -math.inf, 1.0, 2.0, 3.0])
    return [node], [tensor("INPUT0", FP32)], [helper.make_tensor_value_info("OUTPUT0", FP32, [6])]


def sequence() -> Graph:
    """What Triton's sequence batcher would feed: INPUT + START, where READY."""
    nodes = [
        helper.make_node("Add", ["INPUT", "START"], ["sum"]),
        helper.make_node("Mul", ["sum", "READY"], ["OUTPUT"]),
    ]
    return nodes, values(INT32, 1, "INPUT", "START", "READY"), values(INT32, 1, "OUTPUT")


def dyna_sequence() -> Graph:
    """As `sequence`, and with CORRID at the END."""
    nodes = [
        helper.make_node("Cast", ["CORRID"], ["id"], to=INT32),
        helper.make_node("Add", ["INPUT", "START"], ["begun"]),
        helper.make_node("Mul", ["END", "id"], ["ended"]),
        helper.make_node("Add", ["begun", "ended"], ["sum"]),
        helper.make_node("Mul", ["sum", "READY"], ["OUTPUT"]),
    ]
    inputs = [*values(INT32, 1, "INPUT", "START", "END", "READY"), *values(UINT64, 1, "CORRID")]
    return nodes, inputs, values(INT32, 1, "OUTPUT")


def values(kind: int, width: int | str, *names: str) -> list[ValueInfoProto]:
    """Tensors of any number of rows."""
    return [tensor(name, kind, width) for name in names]


def tensor(name: str, kind: int, *row: int | str) -> ValueInfoProto:
    """A tensor of any number of rows."""
    return helper.make_tensor_value_info(name, kind, ["rows", *row])
