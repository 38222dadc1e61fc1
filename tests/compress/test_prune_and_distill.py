from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modelmill.compress.distill.soft import Soft
from modelmill.compress.prune.magnitude import Magnitude
from modelmill.compress.prune.masking import masks, zeros
from modelmill.compress.prune.weights import Weights
from modelmill.errors import ModelError
from modelmill.graph.export import export
from modelmill.network.slicing import channels, cut, kept, prune
from modelmill.train.trainers.adam import Adam

MLP = {"method": "mlp", "width": 16, "depth": 2}
NETWORKS = [
    ("table", MLP),
    ("image", {"method": "cnn", "width": 8, "depth": 2}),
    ("image", {"method": "cnn", "width": 8, "depth": 2, "blocks": 2, "residual": True, "head": "average"}),
    ("image", {"method": "cnn", "width": 6, "depth": 3, "norm": False, "dropout": 0.1}),
]


def trained(make, judge, kind, arch, epochs=6):
    model, data, task = make(kind, arch)
    return list(Adam(epochs=epochs)(model, data, task, judge, 0))[-1].result, data, task


@given(width=st.integers(1, 300), ratio=st.floats(0, 0.999), multiple=st.integers(1, 32))
def test_a_layer_is_never_emptied_and_keeps_at_least_its_share(width, ratio, multiple):
    count = kept(width, ratio, multiple)
    assert 1 <= count <= width
    assert count >= width * (1 - ratio) - 1e-6
    assert count == width or count % multiple == 0


def test_pruning_half_leaves_half(make, judge):
    model, data, task = trained(make, judge, "table", MLP)
    first, *_, last = Magnitude(ratio=0.5, epochs=2)(model, data, task, judge, 0)
    assert "0: 16 to 8" in first.note
    assert [layer.out_features for layer in last.result.body.value if isinstance(layer, torch.nn.Linear)] == [8, 8, 2]


@pytest.mark.parametrize(("kind", "arch"), NETWORKS)
def test_cutting_channels_that_are_zero_changes_no_answer(make, kind, arch):
    model, _, task = make(kind, arch)
    network = model.body.value.eval()
    for group in channels(network):
        for module in (*group.makers, *group.norms):
            with torch.no_grad():
                module.weight[: group.width // 2] = 0
                if module.bias is not None:
                    module.bias[: group.width // 2] = 0
    smaller = copy.deepcopy(network)
    said = prune(smaller, lambda group: group.width - group.width // 2, "l2")
    assert said
    shape = (5, *((1, 8, 8) if kind == "image" else (network[0].in_features,)))
    rows = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(network(rows), smaller(rows), atol=1e-5)
    assert len(export(model.with_body(smaller, "network", ""), task)) < len(export(model, task))


@pytest.mark.parametrize(("kind", "arch"), NETWORKS)
def test_almost_everything_can_go_and_the_rest_still_trains(make, judge, kind, arch):
    model, data, task = make(kind, arch)
    *_, last = Magnitude(ratio=0.99, multiple=1, epochs=1)(model, data, task, judge, 0)
    layers = [
        layer for layer in last.result.body.value.modules() if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)
    ]
    assert all(layer.weight.numel() for layer in layers)
    assert layers[-1].out_features == len(model.signature.classes)
    assert len(export(last.result, task)) < len(export(model, task))


def test_depthwise_convolutions_are_cut_with_what_feeds_them():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 1), torch.nn.Conv2d(8, 8, 3, groups=8), torch.nn.Conv2d(8, 4, 1), torch.nn.Flatten()
    )
    (group,) = channels(network)
    cut(group, torch.tensor([1, 3]))
    assert (network[1].groups, network[1].weight.shape[0], network[2].in_channels) == (2, 2, 2)
    assert network(torch.rand(2, 1, 4, 4)).shape == (2, 16)


def test_the_channels_that_go_are_those_with_the_smallest_weights():
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[3.0, 0.0], [0.1, 0.1], [0.0, 2.0]]))
    assert prune(network, lambda group: 2, "l1") == ["0: 3 to 2"]
    assert network[0].weight.tolist() == [[3.0, 0.0], [0.0, 2.0]]


def test_a_module_that_cannot_be_followed_is_named():
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.PReLU(), torch.nn.Linear(3, 1))
    with pytest.raises(ModelError, match=r"body\.1: channels cannot be followed through PReLU"):
        channels(network)


def test_layers_too_narrow_to_cut_come_back_with_a_note(make, judge):
    model, data, task = make("table", {"method": "mlp", "width": 4, "depth": 1})
    *_, last = Magnitude(ratio=0.5, multiple=8)(model, data, task, judge, 0)
    assert last.result is model
    assert "nothing is removed" in last.note


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("epochs", [0, 1, 4])
def test_the_asked_share_of_weights_ends_as_zeros(make, judge, scope, epochs):
    model, data, task = trained(make, judge, "table", MLP, epochs=2)
    *_, last = Weights(ratio=0.75, scope=scope, epochs=epochs)(model, data, task, judge, 0)
    assert zeros(last.result.body.value) == pytest.approx(0.75, abs=0.02)
    assert "no faster" in last.note


def test_a_layer_keeps_its_last_weight():
    network = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 1))
    for scope in ("local", "global"):
        assert all(mask.any() for mask in masks(network, 0.99, scope).values())


def test_a_student_is_narrower_and_learns_from_its_teacher(make, judge):
    model, data, task = trained(make, judge, "image", {"method": "cnn", "width": 8, "depth": 1}, epochs=10)
    *_, last = Soft(ratio=0.5, epochs=12)(model, data, task, judge, 0)
    assert last.result.body.arch["width"] == 4
    assert last.result.body.value[0].out_channels == 4
    assert last.values["valid_accuracy"] > 0.9


def test_a_student_that_only_hears_its_teacher_repeats_its_values(make, judge):
    model, data, task = trained(make, judge, "regress", MLP, epochs=30)
    *_, last = Soft(ratio=1.0, share=1.0, epochs=40)(model, data, task, judge, 0)
    assert last.values["valid_r2"] > 0.8


def test_a_body_without_an_arch_has_no_student(make, judge):
    model, data, task = make("table", MLP)
    bare = model.with_body(model.body.value, "network", "", {})
    with pytest.raises(ModelError, match="names no arch"):
        list(Soft()(bare, data, task, judge, 0))
