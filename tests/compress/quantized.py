"""What tests of quantized graphs share: a trained graph, its tensors, and what it answers."""

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from modelmill.graph.export import export
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import Session
from modelmill.train.trainers.adam import Adam


def graph(make, judge, arch, kind="image", epochs=5):
    torch.set_num_threads(1)
    model, data, task = make(kind, arch)
    trained = list(Adam(epochs=epochs)(model, data, task, judge, 0))[-1].result
    return trained.with_body(export(trained, task), "graph", ""), data, task


def last(steps):
    return list(steps)[-1]


def proto(model):
    return onnx.load_from_string(model.body.value).graph


def arrays(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto(model).initializer}


def answers(model, dataset):
    return Session(model.body.value).run(from_dataset(dataset))


def off(model, other, dataset):
    """How far probabilities are off, on average."""
    return np.abs(answers(model, dataset)["probabilities"] - answers(other, dataset)["probabilities"]).mean()


def replace(model, name, value):
    """Give an initializer other numbers."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))
