"""Every family goes through the steps that change networks and graphs, or is refused by the layer's name."""

from __future__ import annotations

import pytest

from modelmill.compress import chain
from modelmill.errors import ModelError
from modelmill.evaluate.costs.macs import count
from modelmill.evaluate.judge import predict
from modelmill.graph.export import export
from modelmill.method import decode
from modelmill.recipe.grow import picked_spec, untrained
from modelmill.recipe.look import look
from modelmill.spec import read

FAMILIES = {
    "light": {"method": "darknet53_light", "width": 4, "blocks": [1, 3], "kernel": 3, "stride": 1, "pool": False},
    "resnet": {"method": "cnn", "width": 8, "residual": True, "shortcut": "zeros", "head": "average"},
    "depthwise": {"method": "depthwise", "width": 8, "depth": 2, "blocks": 1, "squeeze": 0.25},
    "transformer": {"method": "transformer", "width": 8, "depth": 1, "patch": 2},
    "rnn": {"method": "rnn", "width": 16, "unit": "lstm"},
}
FAMILIES["shared"] = {**FAMILIES["light"], "shared": True}
CUTTING = ("prune.magnitude", "prune.taylor")
SMALLER = (*CUTTING, "quantize.float16")
STEPS = (
    *SMALLER,
    "prune.blocks",
    "factor.svd",
    "quantize.lsq",
    "quantize.clip",
    "quantize.codebook",
    "quantize.static",
)


@pytest.fixture(scope="module", params=FAMILIES)
def made(request):
    """An untrained network of a family on digits, and its job."""
    arch = FAMILIES[request.param]
    job = look(read({"data": {"method": "builtin", "name": "digits"}, "arch": arch, "train": {"method": "adam"}})).job
    return request.param, untrained(job, picked_spec(job, {}), job.splits.train, 0), job


@pytest.mark.parametrize("name", STEPS)
def test_a_step_gives_a_graph_that_answers(made, name):
    family, model, job = made
    step = decode("compress", {"method": name})
    step = step.replace(epochs=1) if hasattr(step, "epochs") else step
    steps = chain.run([step], model, job.splits, job.task, lambda one: 0.0, 0)
    if family == "rnn" and name in CUTTING:
        with pytest.raises(ModelError, match=r"body\.0: channels cannot be followed through Recurrent"):
            next(steps)
        return
    *_, last = steps
    rows = job.splits.valid
    assert predict(last.result.body.value, rows)["probabilities"].shape == (rows.rows, 10)
    before = export(model, job.task)
    if name in SMALLER:
        assert len(last.result.body.value) < len(before)
    if name in CUTTING:
        assert count(last.result.body.value) < count(before)


def test_channels_can_be_cut_after_activations_were_clipped():
    job = look(read({"data": {"method": "builtin", "name": "digits"}, "arch": {"method": "cnn", "width": 8}})).job
    model = untrained(job, picked_spec(job, {}), job.splits.train, 0)
    steps = [decode("compress", {"method": name, "epochs": 1}) for name in ("quantize.clip", "prune.magnitude")]
    *_, last = chain.run(steps, model, job.splits, job.task, lambda one: 0.0, 0)
    assert count(last.result.body.value) < count(export(model, job.task))


@pytest.mark.parametrize("criterion", ["magnitude", "gradient", "movement"])
def test_weights_of_recurrent_units_go_as_others_do(criterion):
    arch = {"method": "rnn", "unit": "gru", "width": 16, "both": True}
    job = look(read({"data": {"method": "builtin", "name": "digits"}, "arch": arch, "train": {"method": "adam"}})).job
    model = untrained(job, picked_spec(job, {}), job.splits.train, 0)
    step = decode("compress", {"method": "prune.weights", "ratio": 0.75, "criterion": criterion, "epochs": 2})
    *_, last = step(model, job.splits, job.task, lambda one: 0.0, 0)
    units = [weight for name, weight in last.result.body.value.named_parameters() if "weight_" in name]
    assert len(units) == 4
    gone = sum(int((weight == 0).sum()) for weight in units) / sum(weight.numel() for weight in units)
    assert 0.6 < gone < 0.9
