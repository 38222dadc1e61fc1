"""The models that Triton's examples ask for, made here: real ONNX files of a few hundred bytes."""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto, checker, helper

INT32, INT8, TEXT, UINT64 = TensorProto.INT32, TensorProto.INT8, TensorProto.STRING, TensorProto.UINT64


def make(folder: Path) -> list[Path]:
    """All of them as NAME.onnx in a folder."""
    made = {
        "simple": added(INT32),
        "simple_int8": added(INT8),
        "simple_string": added(TEXT),
        "simple_identity": identity(),
        "simple_sequence": sequence(),
        "simple_dyna_sequence": dyna_sequence(),
    }
    paths = []
    for name, (nodes, inputs, outputs) in made.items():
        graph = helper.make_graph(nodes, name, inputs, outputs)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        checker.check_model(model)
        paths.append(folder / f"{name}.onnx")
        paths[-1].write_bytes(model.SerializeToString())
    return paths


def added(kind):
    """Sixteen numbers a row: the sum and the difference of two inputs."""
    cast = [helper.make_node("Cast", [f"INPUT{i}"], [f"in{i}"], to=INT32) for i in (0, 1)]
    math = [helper.make_node(op, ["in0", "in1"], [op]) for op in ("Add", "Sub")]
    back = [helper.make_node("Cast", [op], [f"OUTPUT{i}"], to=kind) for i, op in enumerate(("Add", "Sub"))]
    return [*cast, *math, *back], values(kind, 16, "INPUT0", "INPUT1"), values(kind, 16, "OUTPUT0", "OUTPUT1")


def identity():
    """Texts, as they are."""
    node = helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])
    return [node], values(TEXT, "n", "INPUT0"), values(TEXT, "n", "OUTPUT0")


def sequence():
    """What Triton's sequence batcher would feed: INPUT + START, where READY."""
    nodes = [
        helper.make_node("Add", ["INPUT", "START"], ["sum"]),
        helper.make_node("Mul", ["sum", "READY"], ["OUTPUT"]),
    ]
    return nodes, values(INT32, 1, "INPUT", "START", "READY"), values(INT32, 1, "OUTPUT")


def dyna_sequence():
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


def values(kind, width, *names):
    """Tensors of any number of rows."""
    return [helper.make_tensor_value_info(name, kind, ["rows", width]) for name in names]
