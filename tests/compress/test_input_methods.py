"""Filters and smaller images in the graph before the body."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from modelmill.compress import chain
from modelmill.compress.input import pixels
from modelmill.compress.input.denoise import Denoise
from modelmill.compress.input.downsample import Downsample
from modelmill.dataset import Splits
from modelmill.errors import ModelError
from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.method import decode
from modelmill.model import Body, Model, Part
from modelmill.prepare.chain import prepare
from modelmill.prepare.image import Image
from modelmill.runtime.features import features
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import Session
from modelmill.signature import Field, Signature
from modelmill.task.regress import Regress
from modelmill.train.trainers.adam import Adam

CNN = {"method": "cnn", "width": 8, "depth": 2}
FLAT = {"method": "mlp", "width": 16, "depth": 1}


def trained(make, judge, kind, arch, epochs=8):
    model, data, task = make(kind, arch)
    return list(Adam(epochs=epochs)(model, data, task, judge, 0))[-1].result, data, task


def run(write, images):
    """What some operations give for images of (rows, channels, height, width)."""
    writer = Writer(taken=("images",))
    writer.rename(write("images", writer), "out")
    shape = (-1, *images.shape[1:])
    graph = to_onnx(writer.fragment(), [Field("images", "FP32", shape)], [Field("out", "FP32", (-1, -1, -1, -1))])
    return Session(graph).run({"images": images})["out"]


def drawn(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_a_gaussian_sums_to_one_and_falls_as_it_should():
    weights = pixels.gaussian(5, 1.0)
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    assert weights[2, 3] / weights[2, 2] == pytest.approx(np.exp(-0.5), rel=1e-5)
    assert weights[0, 0] / weights[2, 2] == pytest.approx(np.exp(-4), rel=1e-5)


def test_a_fixed_filter_is_the_mean_of_neighbours_with_the_border_repeated():
    images, weights = drawn(2, 3, 5, 4), pixels.gaussian(3, 0.8)
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), "edge")
    wanted = sum(weights[i, j] * padded[:, :, i : i + 5, j : j + 4] for i in range(3) for j in range(3))
    found = run(lambda value, writer: pixels.blurred(value, 3, weights, writer), images)
    assert np.allclose(found, wanted, atol=1e-5)


def test_the_median_is_that_of_three_down_and_then_across():
    images = drawn(2, 3, 5, 4)
    tall = np.pad(images, ((0, 0), (0, 0), (1, 1), (0, 0)), "edge")
    down = np.median([tall[:, :, i : i + 5] for i in range(3)], axis=0)
    wide = np.pad(down, ((0, 0), (0, 0), (0, 0), (1, 1)), "edge")
    wanted = np.median([wide[:, :, :, i : i + 4] for i in range(3)], axis=0)
    assert np.array_equal(run(pixels.median, images), wanted)


def test_one_bright_pixel_is_gone_after_the_median():
    images = np.zeros((1, 1, 5, 5), np.float32)
    images[0, 0, 2, 2] = 9
    assert not run(pixels.median, images).any()


def test_squares_become_their_mean_and_the_rest_is_cut_off():
    images = drawn(2, 3, 5, 4)
    wanted = images[:, :, :4].reshape(2, 3, 2, 2, 2, 2).mean(axis=(3, 5))
    assert np.allclose(run(lambda value, writer: pixels.pooled(value, 2, writer), images), wanted, atol=1e-6)


@pytest.mark.parametrize("arch", [CNN, FLAT])
@pytest.mark.parametrize("by", ["learned", "gaussian", "median"])
def test_a_filtered_network_still_answers_and_goes_on_to_a_graph(make, judge, by, arch):
    model, data, task = trained(make, judge, "image", arch)
    result = list(chain.run([Denoise(by=by, epochs=6)], model, data, task, judge, 0))[-1].result
    label = Session(result.body.value).run(from_dataset(data.test))["label"]
    assert (label == data.test.target).mean() > 0.8
    types = [node.op_type for node in onnx.load_from_string(result.body.value).graph.node]
    assert ("Pad" in types) == (by != "learned")


def test_a_learned_filter_that_begins_as_it_is_changes_no_answer_and_then_moves(make, judge):
    model, data, task = trained(make, judge, "image", CNN)
    rows = torch.from_numpy(features(model.part, model.signature, data.test).copy())
    *_, same = Denoise(sigma=0, epochs=0)(model, data, task, judge, 0)
    assert torch.allclose(same.result.body.value(rows), model.body.value.eval()(rows), atol=1e-5)
    *_, moved = Denoise(sigma=0, epochs=2)(model, data, task, judge, 0)
    assert not torch.equal(moved.result.body.value[0].weight, same.result.body.value[0].weight)


def test_a_fixed_filter_is_part_of_the_preparation(make, judge):
    model, data, task = trained(make, judge, "image", CNN)
    first, *_, last = Denoise(by="median", epochs=1)(model, data, task, judge, 0)
    assert "a median of three is put before the network" in first.note
    before, after = (features(one.part, one.signature, data.test) for one in (model, last.result))
    assert np.array_equal(after, run(pixels.median, before))
    assert len(last.result.body.value) == len(model.body.value)


def test_the_median_leaves_slopes_and_takes_out_salt():
    slope = np.add.outer(np.arange(8), 2 * np.arange(8)).astype(np.float32)[None, None] + drawn(20, 1, 1, 1)
    assert np.array_equal(run(pixels.median, slope), slope)
    salted = np.where(np.random.default_rng(0).random(slope.shape) < 0.1, np.float32(50), slope)
    away = [np.abs(found - slope).mean() for found in (salted, run(pixels.median, salted))]
    assert away[1] < 0.25 * away[0]


def test_tables_have_nothing_to_filter_and_nothing_to_make_smaller(make, judge):
    model, data, task = make("table", FLAT)
    for step in (Denoise(), Downsample()):
        (last,) = step(model, data, task, judge, 0)
        assert last.result is model
        assert "sees no images" in last.note


@pytest.mark.parametrize("arch", [CNN, {**CNN, "head": "average"}, FLAT])
def test_a_network_for_smaller_images_learns_and_has_the_pool_in_its_preparation(make, judge, arch):
    model, data, task = trained(make, judge, "image", arch)
    first, *_, last = Downsample(epochs=15)(model, data, task, judge, 0)
    assert first.note.startswith("8x8 pixels become 4x4")
    assert features(last.result.part, last.result.signature, data.test).shape[1:] == (1, 4, 4)
    assert last.result.body.features == (1, 4, 4)
    graph = list(chain.run([], last.result, data, task, judge, 0))[-1].result.body.value
    label = Session(graph).run(from_dataset(data.test))["label"]
    assert (label == data.test.target).mean() > 0.9


@pytest.mark.parametrize("head", ["flatten", "average"])
def test_values_of_smaller_images_stay_in_their_unit(make, judge, head):
    _, data, _ = make("image", CNN)
    parts = [
        replace(part, target=part.columns["image"].mean((1, 2), np.float32) * 10 + 500)
        for part in (data.train, data.valid, data.test)
    ]
    splits, task, arch = Splits(*parts, digest="values"), Regress(), {**CNN, "head": head}
    signature = Signature("regress", data.train.fields, task.declare(()), (), "y")
    prepared = prepare([Image()], splits.train, "image")
    body = Body("network", decode("arch", arch)(signature, prepared.shape, 0), arch, prepared.shape)
    model = Model((Part(body, prepared.fragment),), signature)
    model = list(Adam(epochs=8)(model, splits, task, judge, 0))[-1].result
    result = list(chain.run([Downsample(epochs=12)], model, splits, task, judge, 0))[-1].result
    values = Session(result.body.value).run(from_dataset(splits.test))["value"]
    assert np.abs(values - splits.test.target).mean() < 0.7 * splits.test.target.std()


def test_layers_whose_shape_stays_begin_with_their_weights(make, judge):
    model, _, _ = trained(make, judge, "image", CNN)
    rebuilt, whole = Downsample()._rebuilt(model, (1, 4, 4), 7)
    assert torch.equal(rebuilt[0].weight, model.body.value[0].weight)
    assert rebuilt[-1].in_features < model.body.value[-1].in_features
    assert not torch.equal(rebuilt[-1].bias, model.body.value[-1].bias)
    assert not whole
    averaging, _, _ = trained(make, judge, "image", {**CNN, "head": "average"})
    assert Downsample()._rebuilt(averaging, (1, 4, 4), 7)[1]


def test_images_that_are_too_small_are_refused_before_any_training(make, judge):
    model, data, task = make("image", CNN)
    with pytest.raises(ModelError, match="factor = 5 leaves too little of 8x8 pixels"):
        next(iter(Downsample(factor=5)(model, data, task, judge, 0)))


def test_a_body_without_an_arch_cannot_be_built_smaller(make, judge):
    model, data, task = make("image", CNN)
    bare = model.with_body(model.body.value, "network", "", {})
    with pytest.raises(ModelError, match="names no arch"):
        next(iter(Downsample()(bare, data, task, judge, 0)))
