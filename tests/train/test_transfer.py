from __future__ import annotations

import torch
from torch import nn

from modelmill.train.transfer import transfer


def block(width, extra=()):
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), *extra, nn.ReLU(), nn.Linear(width, 3))


def test_layers_of_the_same_names_go_by_their_names():
    source, target = block(5), block(5)
    source[1].running_mean.fill_(7.0)
    found = transfer(source, target)
    assert found.fresh == ()
    assert len(found.copied) == len(source.state_dict())
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in target.state_dict().items())


def test_a_head_of_another_width_is_new_with_its_bias():
    source, target = block(5), block(5)
    target[3] = nn.Linear(5, 2)
    before = target[3].weight.detach().clone()
    found = transfer(source, target)
    assert found.fresh == ("3.weight", "3.bias")
    assert torch.equal(target[3].weight, before)
    assert torch.equal(target[0].weight, source[0].weight)


def test_other_names_go_by_their_order():
    source, target = block(5), block(5, extra=(nn.Dropout(0.5),))
    found = transfer(source, target)
    assert "4.weight" in found.copied
    assert found.fresh == ()
    assert torch.equal(target[4].weight, source[3].weight)


def test_a_layer_in_between_that_is_new_does_not_shift_what_comes_after():
    source = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 8), nn.Linear(8, 2))
    target = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 8), nn.Linear(8, 2))
    found = transfer(source, target)
    assert found.fresh == ("1.weight", "1.bias")
    assert torch.equal(target[3].weight, source[1].weight)
    assert torch.equal(target[4].bias, source[2].bias)


def test_layers_of_other_kinds_with_tensors_of_the_same_shape_are_new():
    found = transfer(nn.Sequential(nn.LayerNorm(3)), nn.Sequential(nn.Linear(1, 3)))
    assert found.copied == ()


def test_the_copy_is_no_view():
    source, target = block(5), block(5)
    transfer(source, target)
    with torch.no_grad():
        source[0].weight.fill_(0.0)
    assert float(target[0].weight.detach().abs().sum()) > 0
