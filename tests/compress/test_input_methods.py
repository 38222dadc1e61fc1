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
from modelmill.compress.input.features import copied, rebuilt
from modelmill.compress.input.prepare import Prepare
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
from modelmill.task.classify import Classify
from modelmill.task.regress import Regress
from modelmill.train.trainers.adam import Adam
from modelmill.train.trainers.estimator import Estimator

CNN = {"method": "cnn", "width": 8, "depth": 2}
FLAT = {"method": "mlp", "width": 16, "depth": 1}
MLP = {"method": "mlp", "width": 12, "depth": 1}
FOREST = {"method": "forest", "trees": 20}
LINEAR = {"method": "linear"}
TASK = Classify()


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
    smaller = rebuilt(model, (1, 4, 4), 7, "here")
    assert not copied(model.body.value, smaller)
    assert torch.equal(smaller[0].weight, model.body.value[0].weight)
    assert smaller[-1].in_features < model.body.value[-1].in_features
    assert not torch.equal(smaller[-1].bias, model.body.value[-1].bias)
    averaging, _, _ = trained(make, judge, "image", {**CNN, "head": "average"})
    assert copied(averaging.body.value, rebuilt(averaging, (1, 4, 4), 7, "here"))


def test_images_that_are_too_small_are_refused_before_any_training(make, judge):
    model, data, task = make("image", CNN)
    with pytest.raises(ModelError, match="factor = 5 leaves too little of 8x8 pixels"):
        next(iter(Downsample(factor=5)(model, data, task, judge, 0)))


def test_a_body_without_an_arch_cannot_be_built_smaller(make, judge):
    model, data, task = make("image", CNN)
    bare = model.with_body(model.body.value, "network", "", {})
    with pytest.raises(ModelError, match="names no arch"):
        next(iter(Downsample()(bare, data, task, judge, 0)))


def labelled(result, data):
    """(accuracy, features) of a finished model on the test rows."""
    graph = list(chain.run([], result, data, TASK, lambda _: 0.0, 0))[-1].result.body.value
    label = Session(graph).run(from_dataset(data.test))["label"]
    return (label == data.test.target).mean(), features(result.part, result.signature, data.test)


def grown(make, judge, arch):
    """A trained network, or a fitted estimator, of the table."""
    if arch is MLP:
        return trained(make, judge, "table", arch, epochs=30)
    model, data, task = make("table", arch)
    return list(Estimator()(model, data, task, judge, 0))[-1].result, data, task


@pytest.mark.parametrize("arch", [MLP, FOREST], ids=["mlp", "forest"])
def test_the_features_that_matter_are_kept_and_the_client_still_sends_raw_rows(make, judge, arch):
    model, data, task = grown(make, judge, arch)  # size, and a flag each for blue, green and red: red alone counts
    before = features(model.part, model.signature, data.test)
    last = list(Prepare(keep=0.5, epochs=20)(model, data, task, judge, 0))[-1]
    accuracy, seen = labelled(last.result, data)
    assert np.array_equal(seen, before[:, [0, 3]])
    assert accuracy > 0.9
    assert last.values["features"] == 2
    assert last.result.signature.inputs == model.signature.inputs
    assert features(model.part, model.signature, data.test) is before


@pytest.mark.parametrize("arch", [MLP, LINEAR], ids=["mlp", "linear"])
def test_preparation_is_fitted_anew_and_the_architecture_trained_for_it(make, judge, arch):
    model, data, task = grown(make, judge, arch)
    steps = ({"method": "impute"}, {"method": "bucket", "count": 6}, {"method": "onehot"})
    last = list(Prepare(prepare=steps, epochs=20)(model, data, task, judge, 0))[-1]
    accuracy, seen = labelled(last.result, data)
    assert seen.shape[1] == 5 + 3
    assert set(np.unique(seen)) == {0, 1}
    assert accuracy > 0.85
    fewer = list(Prepare(prepare=steps, keep=0.5, epochs=20)(model, data, task, judge, 0))[-1].result
    accuracy, seen = labelled(fewer, data)
    assert seen.shape[1] == 4
    assert accuracy > 0.85


def test_the_weights_of_the_features_that_stay_stay(make, judge):
    model, _, _ = trained(make, judge, "table", MLP)
    fewer = rebuilt(model, (2,), 7, "here")
    assert copied(model.body.value, fewer, np.array([0, 3]))
    first, old = next(iter(fewer.parameters())), next(iter(model.body.value.parameters()))
    assert torch.equal(first, old[:, [0, 3]])


def test_a_step_that_has_nothing_to_do_or_cannot_says_so(make, judge):
    model, data, task = make("table", MLP)
    (last,) = Prepare()(model, data, task, judge, 0)
    assert last.result is model
    assert "nothing changes" in last.note
    model, data, task = make("image", CNN)
    with pytest.raises(ModelError, match="sees an image or a sequence"):
        next(iter(Prepare(keep=0.5)(model, data, task, judge, 0)))
