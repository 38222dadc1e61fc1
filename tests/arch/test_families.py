"""Recurrent networks, depthwise CNNs and transformers: shapes, graphs that compute as torch does, what can be cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from modelmill.arch.cnn import Cnn
from modelmill.arch.depthwise import Depthwise
from modelmill.arch.rnn import Rnn
from modelmill.arch.transformer import Transformer
from modelmill.contracts import Arch
from modelmill.errors import ModelError, SpecError
from modelmill.evaluate.costs.macs import count
from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.graph.emit import emit
from modelmill.model import Body
from modelmill.network.blocks import named_weights
from modelmill.network.slicing import channels, cut, kept, prune, removable
from modelmill.runtime.session import Session
from modelmill.signature import Field, Signature

FEW = Signature("classify", (), (), (0, 1, 2))
SEQUENCE, IMAGE, TABLE = (3, 7), (2, 9, 8), (5,)

FAMILIES: dict[str, tuple[Arch, tuple[int, ...]]] = {
    **{f"rnn {unit}": (Rnn(unit=unit, width=6), SEQUENCE) for unit in ("gru", "lstm", "plain")},
    **{
        f"rnn {unit} both ways": (Rnn(unit=unit, width=6, depth=2, both=True, dropout=0.2), SEQUENCE)
        for unit in ("gru", "lstm", "plain")
    },
    "rnn average": (Rnn(unit="lstm", width=5, both=True, head="average"), SEQUENCE),
    "depthwise plain": (Depthwise(width=4, expand=0), IMAGE),
    "depthwise": (Depthwise(width=4, kernel=5, dropout=0.1), IMAGE),
    "depthwise squeeze": (Depthwise(width=4, squeeze=0.25, activation="hardswish"), IMAGE),
    "depthwise plain squeeze": (Depthwise(width=4, expand=0, squeeze=0.5), IMAGE),
    "transformer sequence": (Transformer(width=8, dropout=0.1), SEQUENCE),
    "transformer steps": (Transformer(width=7, heads=3, patch=2), SEQUENCE),
    "transformer image": (Transformer(width=8, patch=4), IMAGE),
    "transformer image first": (Transformer(width=8, pool="first"), IMAGE),
    "transformer table": (Transformer(width=8, heads=1, depth=1), TABLE),
    "transformer table first": (Transformer(width=8, pool="first"), TABLE),
    "resnet": (Cnn(width=4, depth=3, blocks=3, growth=2, stride=1, residual=True, head="average"), IMAGE),
    "resnet of zeros": (Cnn(width=4, depth=3, blocks=2, growth=2, residual=True, shortcut="zeros"), IMAGE),
}


def lived(module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """The module, its norms with statistics of their own."""
    with torch.no_grad():
        for seed in range(3):
            module.train()(torch.randn(8, *shape, generator=torch.Generator().manual_seed(seed)) + 0.5)
    return module.eval()


def written(module: nn.Module, shape: tuple[int, ...]) -> bytes:
    writer = Writer()
    writer.rename(emit(Body("network", module), "features", writer, FEW.classes)[0], "raw")
    return to_onnx(writer.fragment(), [Field("features", "FP32", (-1, *shape))], [Field("raw", "FP32", (-1, -1))])


def assert_same(module: nn.Module, shape: tuple[int, ...]) -> None:
    session = Session(written(module, shape))
    for size in (1, 6):
        rows = torch.randn(size, *shape, generator=torch.Generator().manual_seed(size))
        with torch.no_grad():
            wanted = module(rows).numpy()
        np.testing.assert_allclose(session.run({"features": rows.numpy()})["raw"], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_graph_computes_as_torch_does(name: str) -> None:
    arch, shape = FAMILIES[name]
    module = lived(arch(FEW, shape, 0), shape)
    assert module(torch.zeros(4, *shape)).shape == (4, 3)
    assert arch(Signature("regress", (), ()), shape, 0)(torch.zeros(4, *shape)).shape == (4, 1)
    assert_same(module, shape)


@pytest.mark.parametrize("name", [name for name in FAMILIES if not name.startswith("rnn")])
def test_channels_can_be_cut_and_it_still_computes(name: str) -> None:
    arch, shape = FAMILIES[name]
    module = lived(arch(FEW, shape, 0), shape)
    before = sum(value.numel() for value in named_weights(module).values())
    said = prune(module, lambda group: kept(group.width, 0.5, 1), "l2", channels(module))
    assert said
    assert sum(value.numel() for value in named_weights(module).values()) < 0.9 * before
    assert_same(module, shape)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name.startswith("rnn")])
def test_recurrent_layers_are_refused_by_name(name: str) -> None:
    arch, shape = FAMILIES[name]
    with pytest.raises(ModelError, match=r"body\.0: channels cannot be followed through Recurrent"):
        channels(arch(FEW, shape, 0))


def test_what_multiplies_channels_is_cut_with_them() -> None:
    body = Depthwise(width=4, expand=0, squeeze=0.5, depth=1, blocks=1)(FEW, IMAGE, 0)
    stem, hidden, made = channels(body)
    excited = body[6]
    assert stem.makers == [body[0], body[3], excited.gate[3]]
    assert stem.takers == [excited.gate[1], body[7]]
    assert (hidden.width, made.width) == (2, 4)


def test_a_channel_of_zeros_weighs_nothing_wherever_it_stands() -> None:
    body = lived(Depthwise(width=4, squeeze=0.5)(FEW, IMAGE, 0), IMAGE)
    groups = channels(body)
    with torch.no_grad():
        for group in groups:
            for layer in (*group.makers, *group.norms):
                layer.weight[:1] = 0
                if layer.bias is not None:
                    layer.bias[:1] = 0
        rows = torch.randn(4, *IMAGE)
        before = body(rows)
        for group in groups:
            cut(group, torch.arange(1, group.width))
        np.testing.assert_allclose(body(rows), before, rtol=1e-4, atol=1e-5)


def test_halves_of_a_transformers_blocks_can_go() -> None:
    body = Transformer(depth=3)(FEW, SEQUENCE, 0)
    assert removable(body) == [(place, place + 1) for place in range(1, 7)]


def test_a_resnet_20_has_20_layers_and_the_weights_of_the_paper() -> None:
    arch = Cnn(width=16, depth=3, blocks=3, growth=2, stride=1, residual=True, head="average", shortcut="zeros")
    body = arch(Signature("classify", (), (), tuple(range(10))), (3, 32, 32), 0)
    layers = [layer for layer in body.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(layers) == 20
    # He et al. (2016), table 6: 0.27 million.
    assert sum(parameter.numel() for parameter in body.parameters()) == 269_722


def test_a_transformer_takes_as_many_tokens_as_it_was_told_or_sixty_four() -> None:
    places = [arch(FEW, (1, 28, 28), 0)[0].place.shape[0] for arch in (Transformer(), Transformer(patch=7))]
    assert places == [49, 16]
    assert Transformer(pool="first")(FEW, (1, 100), 0)[0].place.shape[0] == 51


@pytest.mark.parametrize("arch", [Rnn(), Depthwise()])
def test_features_that_do_not_fit_are_refused(arch: Arch) -> None:
    with pytest.raises(SpecError, match=r"features have the shape \(5,\); it takes"):
        arch(FEW, TABLE, 0)


def test_order_matters_to_a_transformer() -> None:
    body = Transformer(width=8)(FEW, SEQUENCE, 0).eval()
    rows = torch.randn(2, *SEQUENCE)
    assert not torch.allclose(body(rows), body(rows.flip(2)), atol=1e-4)


def test_multiply_adds_are_those_of_pencil_and_paper() -> None:
    both = Rnn(unit="gru", width=6, both=True)(FEW, (3, 7), 0)
    assert count(written(both, (3, 7))) == 7 * 2 * (3 * 6 * 3 + 3 * 6 * 6) + 12 * 3
    # Four tokens of 8 numbers, two heads of 4: tokens, then queries, keys and values, products, and out, then maps.
    encoder = Transformer(width=8, depth=1, patch=4)(FEW, (2, 8, 8), 0)
    tokens, maps = 4 * 32 * 8, 4 * 8 * 16 * 2
    attention = 4 * 8 * 24 + 2 * (4 * 4 * 4) * 2 + 4 * 8 * 8
    assert count(written(encoder, (2, 8, 8))) == tokens + attention + maps + 8 * 3
    squeezed = Depthwise(width=4, depth=1, blocks=1, expand=0, squeeze=0.5)(FEW, (1, 6, 6), 0)
    assert count(written(squeezed, (1, 6, 6))) == 36 * (9 * 4 + 9 * 4 + 4 * 4) + 4 * 2 * 2 + 4 * 3
