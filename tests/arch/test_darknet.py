"""Darknet-53 as published, and its light relative: structure counted by hand, one step, graphs, channels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from modelmill.arch.darknet53 import Darknet53
from modelmill.arch.darknet53_light import Darknet53Light
from modelmill.errors import SpecError
from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.graph.emit import emit
from modelmill.model import Body
from modelmill.network.blocks import fill, named_weights
from modelmill.network.slicing import channels, kept, prune
from modelmill.runtime.session import Session
from modelmill.signature import Field, Signature
from modelmill.task.classify import Classify

CLASSES = Signature("classify", (), (), tuple(range(1000)))
FEW = Signature("classify", (), (), (0, 1, 2))
TINY = Darknet53Light(width=4, blocks=(1, 2, 3), kernel=3, stride=1, pool=False)
PHOTO = (3, 224, 224)


def weights(kernel: int, given: int, made: int) -> int:
    """Numbers of a convolution without bias and of the two of its batch norm for every channel."""
    return kernel * kernel * given * made + 2 * made


def published() -> list[int]:
    """Table 1 of the paper, line by line: the numbers of every convolution with its norm, then of the classifier."""
    found = [weights(3, 3, 32)]
    for width, blocks in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        found.append(weights(3, width // 2, width))
        found += [weights(1, width, width // 2), weights(3, width // 2, width)] * blocks
    return [*found, 1024 * 1000 + 1000]


def counted(body: nn.Module) -> list[int]:
    """The numbers of every layer with those of the norm behind it."""
    found: list[int] = []
    for layer in body.modules():
        own = sum(parameter.numel() for parameter in layer.parameters(recurse=False))
        if isinstance(layer, nn.BatchNorm2d):
            found[-1] += own
        elif own:
            found.append(own)
    return found


def answers(module: nn.Module, rows: torch.Tensor) -> tuple[np.ndarray, bytes]:
    writer = Writer()
    writer.rename(emit(Body("network", module), "features", writer, (0, 1, 2))[0], "raw")
    given = [Field("features", "FP32", (-1, *rows.shape[1:]))]
    data = to_onnx(writer.fragment(), given, [Field("raw", "FP32", (-1, -1))])
    return Session(data).run({"features": rows.numpy()})["raw"], data


def lived(module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """The module, its batch norms at home with what they see."""
    with torch.no_grad():
        for seed in range(3):
            module.train()(torch.randn(8, *shape, generator=torch.Generator().manual_seed(seed)) + 0.5)
    return module.eval()


def test_darknet53_has_the_layers_of_the_paper() -> None:
    body = Darknet53()(CLASSES, PHOTO, 0)
    assert counted(body) == published()
    assert len(published()) == 53
    assert sum(published()) == 41_609_928
    assert {layer.negative_slope for layer in body.modules() if isinstance(layer, nn.LeakyReLU)} == {0.1}
    assert [len(block.body) for block in body if type(block).__name__ == "Residual"] == [6] * 23


def test_the_light_one_has_its_convolutions_in_5_26_million_weights() -> None:
    body = Darknet53Light()(CLASSES, PHOTO, 0)
    convolutions = sum(layer.weight.numel() for layer in body.modules() if isinstance(layer, nn.Conv2d))
    head = body[-1].weight.numel() + body[-1].bias.numel()
    separable = {(c, d): 9 * c + c * d for c in (32, 64, 128, 256, 512) for d in (c, 2 * c)}
    stages = ((32, 64, 1), (64, 128, 2), (128, 256, 8), (256, 512, 8))
    by_hand = 7 * 7 * 3 * 32 + sum(separable[a, b] + separable[b, b] * (2 * n - 1) for a, b, n in stages)
    assert convolutions == by_hand == 5_259_264
    assert convolutions + head == 5_772_264
    assert [layer for layer in body[:4] if isinstance(layer, nn.MaxPool2d)]
    with torch.no_grad():
        assert body.eval()[:-3](torch.zeros(1, *PHOTO)).shape == (1, 512, 7, 7)


@pytest.mark.parametrize("arch", [Darknet53(), Darknet53Light()])
def test_one_step_on_224_pixels_lowers_the_loss(arch: Darknet53 | Darknet53Light) -> None:
    torch.set_num_threads(1)
    body = arch(CLASSES, PHOTO, 0).train()
    optimizer = torch.optim.SGD(body.parameters(), 0.01)
    images, labels = torch.rand(2, *PHOTO, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 7])
    smoothing = arch.asks()["train"]["smoothing"]
    before = Classify().loss(body(images), labels, None, smoothing)
    before.backward()
    optimizer.step()
    with torch.no_grad():
        after = Classify().loss(body(images), labels, None, smoothing)
    assert smoothing == 0.1
    assert float(after) < float(before.detach())


@pytest.mark.parametrize("shared", [False, True])
def test_the_light_one_computes_as_torch_does_in_a_graph(shared: bool) -> None:
    body = lived(TINY.replace(shared=shared)(FEW, (1, 13, 10), 0), (1, 13, 10))
    rows = torch.randn(5, 1, 13, 10)
    raw, _ = answers(body, rows)
    with torch.no_grad():
        np.testing.assert_allclose(raw, body(rows).numpy(), rtol=1e-4, atol=1e-5)


def test_darknet53_computes_as_torch_does_in_a_graph() -> None:
    body = lived(Darknet53(width=4, blocks=(1, 2))(FEW, (3, 9, 9), 0), (3, 9, 9))
    rows = torch.randn(5, 3, 9, 9)
    with torch.no_grad():
        np.testing.assert_allclose(answers(body, rows)[0], body(rows).numpy(), rtol=1e-4, atol=1e-5)


def test_shared_weights_are_stored_once_in_the_graph_and_beside_it() -> None:
    wide = TINY.replace(width=16, blocks=(2, 6))
    apart = wide(FEW, (1, 12, 12), 0)
    shared = wide.replace(shared=True)(FEW, (1, 12, 12), 0)
    # What four more blocks of the second stage would hold: two times 9 weights a channel, and a square of weights.
    gone = 4 * 4 * 2 * (9 * 64 + 64 * 64)
    sizes = [len(answers(lived(body, (1, 12, 12)), torch.zeros(1, 1, 12, 12))[1]) for body in (apart, shared)]
    assert sizes[0] - sizes[1] > 0.85 * gone
    kept_weights = {name: value.detach().clone() for name, value in named_weights(shared).items()}
    assert sum(value.numel() for value in kept_weights.values()) < sum(v.numel() for v in named_weights(apart).values())
    again = wide.replace(shared=True)(FEW, (1, 12, 12), 9)
    fill(again, kept_weights)
    rows = torch.randn(2, 1, 12, 12)
    assert torch.equal(again.eval()(rows), shared(rows))


def test_blocks_that_share_weights_learn_together_with_norms_of_their_own() -> None:
    body = TINY.replace(shared=True)(FEW, (1, 12, 12), 0)
    second, third = [block.body for block in body if type(block).__name__ == "Residual"][-2:]
    assert second[0].layer is third[0].layer
    assert second[1] is not third[1]


@pytest.mark.parametrize("shared", [False, True])
def test_inner_channels_of_the_light_one_are_cut_and_it_still_computes(shared: bool) -> None:
    body = lived(TINY.replace(shared=shared)(FEW, (1, 12, 12), 0), (1, 12, 12))
    before = sum(value.numel() for value in named_weights(body).values())
    groups = channels(body)
    prune(body, lambda group: kept(group.width, 0.5, 1), "l2", groups)
    after = sum(value.numel() for value in named_weights(body).values())
    rows = torch.randn(2, 1, 12, 12)
    assert after < 0.8 * before
    with torch.no_grad():
        np.testing.assert_allclose(answers(body, rows)[0], body(rows).numpy(), rtol=1e-4, atol=1e-5)


def test_the_channels_of_the_published_one_are_followed_through_whole_stages() -> None:
    body = Darknet53(width=4, blocks=(1, 2))(FEW, (3, 9, 9), 0)
    assert sorted(group.width for group in channels(body)) == [4, 4, 8, 8, 8, 16]


def test_a_loss_of_yes_and_no_is_that_of_torch_with_labels_drawn_to_a_half() -> None:
    raw, labels = torch.randn(4, 3), torch.tensor([0, 2, 1, -100])
    targets = nn.functional.one_hot(labels[:3], 3).float() * 0.9 + 0.05
    wanted = nn.functional.binary_cross_entropy_with_logits(raw[:3], targets, reduction="sum") / 3
    assert torch.allclose(Classify(binary=True).loss(raw, labels, None, 0.1), wanted)
    shares = nn.functional.one_hot(labels[:3], 3).float()
    assert torch.allclose(
        Classify(binary=True).loss(raw[:3], shares, None, 0.1, 2.0),
        Classify(binary=True).loss(raw[:3], labels[:3], None, 0.1, 2.0),
    )


def test_values_have_no_classes_to_say_yes_to() -> None:
    with pytest.raises(SpecError, match="no classes to say yes or no to"):
        Darknet53Light(binary=True)(Signature("regress", (), ()), (1, 28, 28), 0)


@pytest.mark.parametrize("arch", [Darknet53(), Darknet53Light()])
def test_tables_are_refused(arch: Darknet53 | Darknet53Light) -> None:
    with pytest.raises(SpecError, match="takes images of"):
        arch(FEW, (12,), 0)
