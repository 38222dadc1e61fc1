"""ONNX files from outside, made for the tests: what exporters write, with names and shapes of their own."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def value(name, shape, kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, inputs, outputs, weights=(), opset=20, ir_version=9, **more):
    """A model of nodes; weights by name."""
    tensors = [numpy_helper.from_array(array, name) for name, array in dict(weights).items()]
    graph = helper.make_graph(nodes, "outside", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version, **more)


def scores(classes=3, rows="batch_size", width=4, weights=None):
    """(rows, width) -> (rows, classes): one matrix product."""
    array = np.arange(width * classes, dtype=np.float32).reshape(width, classes) if weights is None else weights
    return model(
        [
            helper.make_node(
                "MatMul", ["features", "w"], ["scores"], name="/head/MatMul", doc_string="where it was traced"
            )
        ],
        [value("features", [rows, width])],
        [value("scores", [rows, classes])],
        {"w": array},
        producer_name="elsewhere",
    )


def recurrent():
    """A step of a recurrent network: frames of 8 numbers or more, a state with the rows within, a sampling rate."""
    nodes = [
        helper.make_node("Slice", ["input", "begin", "end"], ["eight"]),
        helper.make_node("Gather", ["state", "last"], ["held"], axis=0),
        helper.make_node("MatMul", ["eight", "w"], ["seen"]),
        helper.make_node("Add", ["seen", "held"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["now"]),
        helper.make_node("Unsqueeze", ["now", "zero"], ["layer"]),
        helper.make_node("Concat", ["layer", "layer"], ["stateN"], axis=0),
        helper.make_node("Cast", ["sr"], ["rate"], to=FLOAT),
        helper.make_node("ReduceMean", ["now", "one"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "rate"], ["output"]),
    ]
    weights = {
        "w": np.ones((8, 3), np.float32) / 8,
        "begin": np.array([0, 0]),
        "end": np.array([2**31, 8]),
        "last": np.array(1),
        "zero": np.array([0]),
        "one": np.array([1]),
    }
    inputs = [value("input", [None, None]), value("state", [2, None, 3]), value("sr", [], INT64)]
    return model(nodes, inputs, [value("output", [None, 1]), value("stateN", [None, None, None])], weights)


def encoder():
    """Tokens and their mask to the mean of their vectors, as transformers' exports are shaped."""
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["kept"], to=FLOAT),
        helper.make_node("Unsqueeze", ["kept", "last"], ["mask"]),
        helper.make_node("Mul", ["vectors", "mask"], ["last_hidden_state"]),
    ]
    weights = {"words": np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32), "last": np.array([-1])}
    inputs = [value(name, ["batch_size", "sequence_length"], INT64) for name in ("input_ids", "attention_mask")]
    return model(nodes, inputs, [value("last_hidden_state", ["batch_size", "sequence_length", 6])], weights)
