"""What quantizing leaves of the quality on real digits, and what onnxruntime runs of it."""

from __future__ import annotations

import pytest
import torch

from modelmill.compress import chain
from modelmill.compress.quantize.executed import executed
from modelmill.data.read import read
from modelmill.data.split import split
from modelmill.graph.export import export
from modelmill.method import decode
from modelmill.model import Body, Model, Part
from modelmill.prepare.chain import defaults, prepare
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import Session
from modelmill.signature import Signature
from modelmill.task.classify import Classify
from modelmill.train.trainers.adam import Adam

ARCHS = {
    "mlp": {"method": "mlp", "width": 64, "depth": 2},
    "cnn": {"method": "cnn", "width": 8, "depth": 2, "residual": True, "head": "average"},
}
INTEGERS = ("QGemm", "QLinearConv")
FLOATS = ("Gemm",)


@pytest.fixture(scope="module", params=list(ARCHS))
def digits(request):
    """A network that was trained on digits, its rows and its task."""
    torch.set_num_threads(1)
    splits, task = split(read({"method": "builtin", "name": "digits"}), 0, "classify"), Classify()
    fields, classes = splits.train.fields, tuple(sorted(set(splits.train.target.tolist())))
    signature = Signature("classify", fields, task.declare(classes), classes, "y")
    prepared = prepare([decode("prepare", step) for step in defaults(fields, "image")], splits.train, "image")
    arch = ARCHS[request.param]
    body = Body("network", decode("arch", arch)(signature, prepared.shape, 0), arch)
    model = Model((Part(body, prepared.fragment),), signature)
    trained = list(Adam(epochs=8, learning_rate=0.01)(model, splits, task, lambda model: 0.0, 0))[-1].result
    return trained, splits, task


def quality(graph, splits):
    found = Session(graph).run(from_dataset(splits.test))["label"]
    return float((found == splits.test.target).mean())


STEPS = [
    ({"method": "quantize.lsq", "epochs": 2}, 0.02, INTEGERS),
    ({"method": "quantize.lsq", "epochs": 6, "bits": 3, "activation_bits": 4, "learning_rate": 0.005}, 0.03, INTEGERS),
    ({"method": "quantize.pact", "epochs": 3, "activation_bits": 6}, 0.02, INTEGERS),
    ({"method": "quantize.fixed_point"}, 0.02, INTEGERS),
    ({"method": "quantize.codebook", "epochs": 2, "smallest": 64}, 0.02, FLOATS),
    ({"method": "quantize.mixed", "rows": 64}, 0.02, (*INTEGERS, "MatMulNBits")),
    ({"method": "quantize.smooth"}, 0.02, INTEGERS),
    ({"method": "quantize.gptq"}, 0.03, INTEGERS),
    ({"method": "quantize.float16"}, 0.003, FLOATS),
    ({"method": "quantize.blocks", "smallest": 64}, 0.02, ("MatMulNBits",)),
]


@pytest.mark.parametrize(("table", "loss", "run"), STEPS, ids=lambda value: str(value)[:60])
def test_quality_is_kept_and_the_kernels_run_that_were_promised(digits, judge, table, loss, run):
    model, splits, task = digits
    before = export(model, task)
    result = list(chain.run([decode("compress", table)], model, splits, task, judge, 0))[-1].result
    after = result.body.value
    assert quality(after, splits) >= quality(before, splits) - loss
    assert set(run).intersection(executed(after))
    assert len(after) < len(before)
