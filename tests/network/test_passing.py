"""The channels that modules say they give are those of the values that they make."""

import pytest
import torch
from torch import nn

from modelmill.network.attention import Tokens
from modelmill.network.blocks import Excited, Residual, Shared, Widened
from modelmill.network.graphbody import Graph, operation
from modelmill.network.passing import passed, ways
from modelmill.network.recurrent import Recurrent

IMAGES = [
    nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6), nn.ReLU()),
    Residual(nn.Sequential(nn.Conv2d(4, 6, 1)), nn.Conv2d(4, 6, 1), nn.ReLU()),
    Widened(3, 2),
    Excited(4, 2),
    Shared(nn.Conv2d(4, 5, 1)),
    operation("separable3", "image", 4),
    Graph([nn.Conv2d(4, 6, 1), nn.Conv2d(6, 6, 1)], [[0], [1], [1, 2]]),
    Graph([nn.Conv2d(4, 6, 1), nn.MaxPool2d(1)], [[0], [1], [0, 1, 2]], nn.Conv2d(16, 3, 1)),
]
SEQUENCES = [
    Recurrent(4, 3),
    Recurrent(4, 3, "lstm", both=True),
    Recurrent(4, 3, both=True, last=True),
    Graph([Recurrent(4, 6), nn.AvgPool1d(1)], [[0], [1], [2]]),
    nn.Sequential(nn.Conv1d(4, 5, 3), nn.Dropout(0.1)),
]


@pytest.mark.parametrize("module", IMAGES)
def test_the_channels_behind_a_module_of_images_are_those_that_it_makes(module):
    assert passed(module, 4) == module.eval()(torch.rand(2, 4, 6, 6)).shape[1]


@pytest.mark.parametrize("module", SEQUENCES)
def test_the_channels_behind_a_module_of_sequences_are_those_that_it_makes(module):
    assert passed(module, 4) == module.eval()(torch.rand(2, 4, 6)).shape[1]


def test_the_channels_of_tokens_are_their_numbers():
    assert passed(Tokens(nn.Conv2d(1, 5, 2, stride=2), 4, 5, first=False), 1) == 5


def test_a_block_that_comes_twice_is_passed_twice():
    double = Widened(2, 1)
    assert ways(nn.Sequential(double, double), 3) == [3, 5, 7]
