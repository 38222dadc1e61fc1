"""What tests of graphs from elsewhere share: files of other makers, rows for them, and what they answer."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelmill.dataset import Dataset, Splits
from modelmill.graph.decode import describe
from modelmill.model import Body, Model, Part
from modelmill.runtime.session import Session
from modelmill.signature import Signature
from modelmill.task.regress import Regress

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def proto(nodes, inputs, outputs, constants, opset=17):
    """An ONNX model of nodes (type, inputs, outputs, attributes), with float inputs and outputs by name and shape."""
    made = [helper.make_node(kind, given, gives, **settings) for kind, given, gives, settings in nodes]
    graph = helper.make_graph(
        made,
        "outside",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def normal(*shape, seed=0, scale=0.3):
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def model_of(made):
    """A graph as a model, from its bytes or as onnx has it."""
    data = made if isinstance(made, bytes) else made.SerializeToString()
    inputs, outputs = describe(data)
    return Model((Part(Body("graph", data)),), Signature("regress", inputs, outputs))


def rows(model, count=64, seed=1, columns=None):
    """Splits of random rows for the inputs of a model, or of the columns that are given."""

    def part(number):
        rng = np.random.default_rng(seed + number)
        made = columns or {
            field.name: rng.normal(size=(count, *(size if size > 0 else 5 for size in field.shape[1:]))).astype("f")
            for field in model.signature.inputs
        }
        return Dataset(model.signature.inputs, made, np.zeros(count, np.float32), "y")

    return Splits(part(0), part(1), part(2), digest="sha256:0")


def applied(step, model, data):
    """The last progress of a step."""
    return list(step(model, data, Regress(), lambda _: 0.0, 0))[-1]


def types(data):
    """The types of the operations of all graphs of a file."""
    from modelmill.graph.scopes import nodes

    return [node.op_type for node in nodes(onnx.load_from_string(data))]


def differ(first, second, columns):
    """The largest difference of the first output of two files, in units of the largest number there."""
    one, two = (next(iter(Session(data).run(columns).values())) for data in (first, second))
    assert one.shape == two.shape
    return float(np.abs(one - two).max() / np.abs(one).max())
