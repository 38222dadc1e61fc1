"""Channels are followed through every kind of module we have, and blocks are found that can go."""

import copy

import pytest
import torch
from torch import nn

from modelmill.errors import ModelError
from modelmill.network.blocks import Residual
from modelmill.network.graphbody import Graph
from modelmill.network.mixture import mixed
from modelmill.network.recurrent import Recurrent
from modelmill.network.slicing import channels, cut, kept, largest, prune, removable, without


def block(width):
    body = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width))
    return Residual(body, nn.Identity(), nn.ReLU())


def test_a_block_that_comes_twice_is_cut_once():
    shared = block(8)
    network = nn.Sequential(nn.Conv2d(1, 8, 1), shared, shared, nn.Conv2d(8, 2, 1)).eval()
    (group,) = channels(network)
    assert group.makers == [shared.body[0], network[0]]
    assert set(group.takers) == {shared.body[0], network[3]}
    with torch.no_grad():
        for module in (network[0], shared.body[0], shared.body[1]):
            module.weight[:4] = 0
            module.bias[:4] = 0
    x = torch.rand(3, 1, 4, 4)
    before = network(x)
    cut(group, torch.arange(4, 8))
    assert torch.allclose(before, network(x), atol=1e-6)
    assert network[1] is network[2]


def test_the_layers_of_several_networks_that_answer_as_one_are_cut_in_each():
    members = [nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)) for _ in range(2)]
    network = mixed(members, classify=True)
    assert [group.width for group in channels(network)] == [8, 8]
    assert prune(network, lambda group: 4, "l2") == ["members.0.0: 8 to 4", "members.1.0: 8 to 4"]
    assert network(torch.rand(5, 3)).shape == (5, 2)


def test_a_recurrent_layer_is_refused_by_name():
    network = nn.Sequential(nn.Conv1d(1, 4, 3), Graph([Recurrent(4, 4)], [[0], [1]]), nn.Conv1d(4, 2, 1))
    with pytest.raises(ModelError, match=r"body\.1\.nodes\.0: channels cannot be followed through Recurrent"):
        channels(network)


def test_a_subclass_with_a_forward_of_its_own_is_refused():
    class Doubled(nn.Sequential):
        def forward(self, x):
            return super().forward(2 * x)

    with pytest.raises(ModelError, match=r"body: channels cannot be followed through Doubled"):
        channels(Doubled(nn.Linear(2, 3), nn.Linear(3, 1)))


def test_channels_laid_side_by_side_stay_as_they_are():
    nodes = [nn.Sequential(nn.Conv1d(4, 4, 1)), nn.Sequential(nn.Conv1d(4, 4, 1))]
    cell = Graph(nodes, [[0], [0], [1, 2]], nn.Sequential(nn.Conv1d(8, 4, 1)))
    network = nn.Sequential(nn.Conv1d(2, 4, 1), cell, nn.Conv1d(4, 2, 1))
    assert [group.makers for group in channels(network)] == [[network[0]], [cell.mix[0]]]


def test_blocks_that_keep_the_shape_can_go_and_shared_ones_one_by_one():
    shared = block(4)
    cell = Graph([nn.Conv2d(4, 4, 1)], [[0], [1]])
    network = nn.Sequential(nn.Conv2d(1, 4, 1), shared, shared, cell, nn.Flatten(), nn.Linear(4, 2))
    assert removable(network) == [(1, 2), (2, 3), (3, 4)]
    smaller = without(copy.deepcopy(network), [True, False, False])
    assert len(smaller) == 4
    assert smaller(torch.rand(2, 1, 1, 1)).shape == (2, 2)


@pytest.mark.parametrize(("reads", "mix"), [([[0], [1]], None), ([[0], [0, 1]], nn.Conv2d(8, 4, 1))])
def test_a_cell_can_go_until_fewer_channels_come_in_than_it_gives(reads, mix):
    cell = Graph([nn.Sequential(nn.Conv2d(4, 4, 1))], reads, mix and nn.Sequential(mix))
    network = nn.Sequential(nn.Conv2d(1, 4, 1), cell, nn.Flatten(), nn.Linear(4, 2))
    assert removable(network) == [(1, 2)]
    last = channels(network)[-1]
    cut(last, torch.arange(3))
    assert network(torch.rand(2, 1, 1, 1)).shape == (2, 2)
    assert removable(network) == []


def test_a_dilated_convolution_goes_only_where_it_keeps_the_size():
    for padding, found in ((1, []), (2, [(1, 2)])):
        dilated = nn.Conv2d(4, 4, 3, padding=padding, dilation=2)
        assert removable(nn.Sequential(nn.Conv2d(1, 4, 1), dilated, nn.Flatten(), nn.Linear(4, 2))) == found


def test_the_first_of_equal_channels_stay():
    assert largest(torch.tensor([1.0, 3.0, 1.0, 1.0]), 2).tolist() == [0, 1]
    assert kept(8, 0.3, 4) == 8
