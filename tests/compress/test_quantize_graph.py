"""Quantizations of a finished graph: what they store, what onnxruntime runs, and what they refuse."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from modelmill.compress.quantize.allot import Option, allot
from modelmill.compress.quantize.blocked import blocked
from modelmill.compress.quantize.blocks import Blocks
from modelmill.compress.quantize.calibrate import chosen, opened, ranges
from modelmill.compress.quantize.codebook import Codebook
from modelmill.compress.quantize.columns import by_block, by_channel, hessians
from modelmill.compress.quantize.dynamic import Dynamic
from modelmill.compress.quantize.executed import executed
from modelmill.compress.quantize.fixed_point import FixedPoint
from modelmill.compress.quantize.float16 import Float16
from modelmill.compress.quantize.gptq import Gptq
from modelmill.compress.quantize.mixed import Mixed
from modelmill.compress.quantize.mixing import Mixer
from modelmill.compress.quantize.powers import covering, steps
from modelmill.compress.quantize.sharing import Shared, clustered
from modelmill.compress.quantize.smooth import Smooth
from modelmill.compress.quantize.smoothing import links, smooth
from modelmill.compress.quantize.static import Static
from modelmill.compress.quantize.stored import upgrade
from modelmill.compress.quantize.tidy import tidy
from modelmill.compress.quantize.weights import Weight, replace, weights
from modelmill.errors import ModelError
from modelmill.graph.export import export
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import Session
from modelmill.train.trainers.adam import Adam

CNN = {"method": "cnn", "width": 8, "depth": 2, "residual": True}
MLP = {"method": "mlp", "width": 64, "depth": 2}
FLOATS = {"Conv", "Gemm", "MatMul"}


def graph(make, judge, arch, kind="image", epochs=5):
    torch.set_num_threads(1)
    model, data, task = make(kind, arch)
    trained = list(Adam(epochs=epochs)(model, data, task, judge, 0))[-1].result
    return trained.with_body(export(trained, task), "graph", ""), data, task


def last(steps):
    return list(steps)[-1]


def proto(model):
    return onnx.load_from_string(model.body.value).graph


def arrays(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto(model).initializer}


def nodes(model):
    return [node.op_type for node in proto(model).node]


def answers(model, dataset):
    return Session(model.body.value).run(from_dataset(dataset))


def off(model, other, dataset):
    """How far probabilities are off, on average."""
    return np.abs(answers(model, dataset)["probabilities"] - answers(other, dataset)["probabilities"]).mean()


def scales(model):
    """All scales of the pairs of a graph."""
    known = arrays(model)
    pairs = [node for node in proto(model).node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    return np.concatenate([known[node.input[1]].ravel() for node in pairs])


def test_a_power_of_two_covers_the_largest_weight_or_is_half_of_that():
    assert [covering(x) for x in (0.9, 1.0, 1.1)] == [1.0, 1.0, 2.0]
    many_small = np.array([[1.05] + [0.26, -0.24] * 50])
    assert steps(many_small, 1).tolist() == [1.0]  # 2 covers 1.05; 1 cuts it by 0.05
    assert steps(np.array([[2.0, 0.4]]), 1).tolist() == [2.0]


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("arch", [CNN, MLP])
def test_fixed_point_has_powers_of_two_for_all_scales_and_computes_in_integers(make, judge, arch, per_channel):
    model, data, task = graph(make, judge, arch)
    found = last(FixedPoint(per_channel=per_channel)(model, data, task, judge, 0)).result
    exponents = np.log2(scales(found).astype(np.float64))
    assert np.array_equal(exponents, exponents.round())
    zeros = {int(value) for value in arrays(found).values() if value.dtype == np.uint8 and value.ndim == 0}
    assert zeros <= {0, 128}
    assert max(np.abs(value.astype(int)).max() for value in arrays(found).values() if value.dtype == np.int8) <= 63
    assert not FLOATS.intersection(executed(found.body.value))
    assert off(model, found, data.test) < 0.02


def test_a_weight_is_snapped_along_its_channels():
    weight = Weight("w", np.array([[0.9, 4.0], [0.4, -90.0]], np.float32), 1)
    assert weight.rows.tolist() == [[pytest.approx(0.9), pytest.approx(0.4)], [4, -90]]
    assert weight.snapped(np.array([0.5, 8.0]), 3).tolist() == [[1.0, 0.0], [0.5, -24.0]]


def test_the_gradient_of_a_centroid_is_the_sum_of_those_of_its_weights():
    layer = torch.nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 5.0, 1.0]]))
    shared = Shared(layer, 2)
    assert shared.centroids.tolist() == [1, 5]
    shared(torch.tensor([[2.0, 3.0, 40.0]])).sum().backward()
    assert shared.centroids.grad.tolist() == [42, 3]


def test_zeros_have_a_centroid_of_their_own_and_stay_zeros():
    weight = np.where(np.arange(60) % 3, np.random.default_rng(0).normal(size=60), 0).astype(np.float32)
    centroids, codes = clustered(weight, 4)
    assert len(centroids) == 4
    assert not centroids[codes][weight == 0].any()


@pytest.mark.parametrize(("bits", "ratio"), [(4, 0.25), (6, 0.4)])
def test_a_codebook_stores_codes_and_onnxruntime_computes_in_floats(make, judge, bits, ratio):
    model, data, task = graph(make, judge, MLP)
    made = last(Codebook(bits=bits)(model, data, task, judge, 0))
    assert len(made.result.body.value) < ratio * len(model.body.value)
    codes = [value for value in arrays(made.result).values() if value.ndim == 2 and value.dtype.itemsize == 1]
    assert codes
    assert max(int(value.astype(int).max()) for value in codes) < 2**bits
    assert "size only" in made.note
    assert "Gemm" in executed(made.result.body.value)
    assert not {"Gather", "QGemm"}.intersection(executed(made.result.body.value))
    assert off(model, made.result, data.test) < 0.02


def test_training_the_values_lowers_the_loss_that_sharing_brought(make, judge):
    torch.set_num_threads(1)
    model, data, task = make("image", MLP)
    model = last(Adam(epochs=5)(model, data, task, judge, 0)).result
    found = {}
    for epochs in (0, 4):
        made = last(Codebook(bits=1, epochs=epochs, learning_rate=0.01)(model, data, task, judge, 0)).result
        target = data.train.target
        said = answers(made, data.train)["probabilities"][np.arange(len(target)), target]
        found[epochs] = -np.log(said + 1e-9).mean()
    assert found[4] < found[0]
    weights = [value for value in arrays(made).values() if value.dtype.name == "uint4"]
    assert len(weights) == 2
    assert all(set(value.astype(int).ravel()) == {0, 1} for value in weights)


def test_a_value_network_that_shares_weights_keeps_its_unit(make, judge):
    torch.set_num_threads(1)
    model, data, task = make("regress", {"method": "mlp", "width": 64, "depth": 1})
    model = last(Adam(epochs=20)(model, data, task, judge, 0)).result
    made = last(Codebook(bits=5, epochs=2, smallest=32)(model, data, task, judge, 0)).result
    assert np.corrcoef(answers(made, data.test)["value"].ravel(), data.test.target)[0, 1] > 0.9
    assert abs(answers(made, data.test)["value"].mean() - data.test.target.mean()) < 3


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_blocks_run_as_one_operation_on_packed_weights(make, judge, bits, symmetric):
    model, data, task = graph(make, judge, MLP)
    made = last(Blocks(bits=bits, symmetric=symmetric, smallest=64)(model, data, task, judge, 0)).result
    ran = executed(made.body.value)
    assert ran.count("MatMulNBits") == 3
    assert not {"Gemm", "MatMul", "DequantizeLinear"}.intersection(ran)
    assert len(made.body.value) < (0.32 if bits == 4 else 0.45) * len(model.body.value)
    assert off(model, made, data.test) < 0.02


def test_a_product_and_a_bias_of_other_exporters_run_on_packed_weights_too(make, judge):
    model, data, task = graph(make, judge, MLP)
    loaded, names = opened(model.body.value, 64)
    given = weights(loaded, names)
    made = []
    for node in loaded.graph.node:
        if node.name in names:
            replace(loaded, node.input[1], given[node.name].value.T)
            made.append(onnx.helper.make_node("MatMul", node.input[:2], [f"{node.name}_y"]))
            made.append(onnx.helper.make_node("Add", [node.input[2], f"{node.name}_y"], node.output))
        else:
            made.append(node)
    del loaded.graph.node[:]
    loaded.graph.node.extend(made)
    foreign = model.with_body(loaded.SerializeToString(), "graph", "")
    assert off(model, foreign, data.test) < 1e-6
    found = last(Blocks(smallest=64)(foreign, data, task, judge, 0)).result
    assert executed(found.body.value).count("MatMulNBits") == 3
    assert off(foreign, found, data.test) < 0.02


@pytest.mark.parametrize("method", [Blocks(smallest=64), Codebook(smallest=64)])
def test_files_of_an_older_opset_are_brought_to_the_one_that_knows_4_bits(make, judge, method):
    model, data, task = graph(make, judge, MLP)
    loaded = onnx.load_from_string(model.body.value)
    loaded.opset_import[0].version, loaded.ir_version = 17, 8
    old = model.with_body(loaded.SerializeToString(), "graph", "")
    found = last(method(old, data, task, judge, 0)).result
    assert onnx.load_from_string(found.body.value).opset_import[0].version == 21
    assert off(old, found, data.test) < 0.02


def test_a_file_that_cannot_be_brought_there_is_refused_by_name(make, judge):
    model, *_ = graph(make, judge, MLP, epochs=1)
    loaded = onnx.load_from_string(model.body.value)
    loaded.opset_import[0].version = 17
    loaded.graph.node[-1].op_type = "NoSuchOperation"
    with pytest.raises(ModelError, match="cannot be brought to opset 21"):
        upgrade(loaded)


def test_every_block_has_the_scale_that_its_weights_need():
    weight = np.array([[7.0], [-3.0], [0.7], [0.1], [100.0]], np.float32)
    found = blocked(weight, 4, 2, symmetric=True)
    assert found.scales.shape == (3, 1)
    assert found.codes.ravel().tolist()[:2] == [7, -3]
    assert np.abs(found.value(2) - weight).max() <= 0.06
    padded = blocked(weight, 8, 4, symmetric=False)
    assert padded.codes.min() >= 0
    assert np.abs(padded.value(4) - weight).max() <= 0.25


def test_weights_of_four_bits_lie_two_in_a_byte(make, judge):
    model, data, task = graph(make, judge, MLP)
    made = last(Blocks(smallest=64)(model, data, task, judge, 0)).result
    packed = [tensor for tensor in proto(made).initializer if tensor.data_type == 22]
    assert [len(tensor.raw_data) for tensor in packed] == [np.prod(tensor.dims) // 2 for tensor in packed]
    assert onnx.load_from_string(made.body.value).opset_import[0].version == 21


def test_allotting_finds_what_trying_all_finds():
    rng = np.random.default_rng(0)
    table = [[Option(str(i), *rng.uniform(0, 1, 2)) for i in range(3)] for _ in range(5)]
    every = [[a, b, c, d, e] for a in range(3) for b in range(3) for c in range(3) for d in range(3) for e in range(3)]

    def sums(picked):
        chosen = [options[number] for options, number in zip(table, picked, strict=True)]
        return sum(option.loss for option in chosen), sum(option.cost for option in chosen)

    for limit in (1.2, 1.8, 2.6):
        best = min(sums(picked)[0] for picked in every if sums(picked)[1] <= limit)
        loss, cost = sums(allot(table, limit))
        assert cost <= limit + 1e-9
        assert loss == pytest.approx(best, abs=0.02)


def test_a_smaller_limit_gives_a_smaller_mix_and_one_that_nothing_keeps_the_nearest(make, judge):
    model, data, task = graph(make, judge, MLP)
    sizes, notes = [], []
    for ratio in (0.6, 0.25, 0.01):
        made = last(Mixed(ratio=ratio)(model, data, task, judge, 0))
        sizes.append(len(made.result.body.value))
        notes.append(made.note)
        if ratio > 0.1:
            assert len(made.result.body.value) <= ratio * len(model.body.value)
            assert "within the limit" in made.note
    assert sizes == sorted(sizes, reverse=True)
    assert "the nearest to the limit" in notes[-1]


def test_neighbours_of_8_and_4_bits_both_compute_on_integers(make, judge):
    model, data, _ = graph(make, judge, MLP)
    loaded, names = opened(model.body.value, 64)
    mixer = Mixer(loaded, names, ranges(loaded, chosen(loaded, names), data.train, "minmax"), True, data.train)
    for ways in (("8 bits", "4 bits", "8 bits"), ("4 bits", "8 bits", "4 bits")):
        ran = executed(mixer.graph(dict(zip(names, ways, strict=True))))
        assert ran.count("MatMulNBits") == ways.count("4 bits")
        assert ran.count("QGemm") == ways.count("8 bits")


def test_a_latency_limit_is_measured_and_told(make, judge):
    model, data, task = graph(make, judge, MLP, epochs=1)
    first, *_, end = Mixed(by="latency", ratio=1.0, rows=32)(model, data, task, judge, 0)
    assert "the latency may be" in first.note
    assert end.result.signature == model.signature


def uneven(model):
    """The same graph with two hidden channels a hundred times larger, and their readers that much smaller."""
    loaded, names = opened(model.body.value, 64)
    link = links(loaded, names)[0]
    first, reader = link.makers[0][0], link.readers[0].name
    weights = {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in loaded.graph.initializer}
    for name, axis in link.makers:
        np.moveaxis(weights[name], axis, 0)[:2] *= 100
        replace(loaded, name, weights[name])
    weights[reader][:, :2] /= 100
    replace(loaded, reader, weights[reader])
    assert first != reader
    return model.with_body(loaded.SerializeToString(), "graph", "")


@pytest.mark.parametrize("arch", [MLP, {"method": "cnn", "width": 8, "depth": 3}])
def test_smoothing_changes_no_answers_in_floats(make, judge, arch):
    model, data, _ = graph(make, judge, arch)
    loaded, names = opened(model.body.value, 64)
    assert smooth(loaded, names, data.train, 0.5) == len(names) - (2 if arch is not MLP else 1)
    smoothed = model.with_body(tidy(loaded), "graph", "")
    before, after = (answers(one, data.test)["probabilities"] for one in (model, smoothed))
    assert np.allclose(before, after, atol=1e-5)
    weights = [tensor.raw_data for one in (model, smoothed) for tensor in proto(one).initializer]
    assert len(set(weights)) > len(proto(model).initializer)


def test_channels_that_are_far_too_large_lose_less_when_smoothed(make, judge):
    model, data, task = graph(make, judge, MLP)
    model = uneven(model)
    static = last(Static()(model, data, task, judge, 0)).result
    smoothed = last(Smooth()(model, data, task, judge, 0)).result
    assert off(model, smoothed, data.test) < 0.2 * off(model, static, data.test)
    assert not FLOATS.intersection(executed(smoothed.body.value))


def test_a_sum_of_two_branches_is_not_smoothed(make, judge):
    model, *_ = graph(make, judge, CNN, epochs=1)
    loaded, names = opened(model.body.value, 64)
    makers = {name: node.op_type for node in loaded.graph.node for name in node.output}
    found = [makers[link.value] for link in links(loaded, names)]
    assert len(found) == 2  # within each residual block


def test_the_second_column_makes_up_for_the_first():
    inputs = np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 0.1]])
    rows = np.array([[0.4, 0.4]])
    codes = by_channel(rows, inputs.T @ inputs, np.array([1.0]), 7, 1e-9)
    assert codes.tolist() == [[0, 1]]  # rounding each alone gives 0 and 0
    blocks = by_block(rows.T, inputs.T @ inputs, 8, 2, 1e-9)
    assert np.abs(inputs @ (blocks.value(2) - rows.T)).max() < 0.01


def test_outputs_are_off_less_than_with_weights_rounded_each_alone():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(400, 4)) @ rng.normal(size=(4, 24)) + 0.1 * rng.normal(size=(400, 24))
    rows = rng.normal(size=(10, 24))
    step = np.abs(rows).max(1) / 3
    made = by_channel(rows, inputs.T @ inputs / 400, step, 3, 0.01) * step[:, None]
    alone = np.clip(np.round(rows / step[:, None]), -3, 3) * step[:, None]
    assert ((inputs @ (made - rows).T) ** 2).mean() < 0.5 * ((inputs @ (alone - rows).T) ** 2).mean()


def test_patches_of_a_convolution_give_what_it_computes(make, judge):
    model, data, _ = graph(make, judge, {"method": "cnn", "width": 4, "depth": 2}, epochs=1)
    loaded, names = opened(model.body.value, 64)
    given = weights(loaded, names)
    rows = data.train.take(np.arange(8))
    found = hessians(loaded, given, rows)
    for node in loaded.graph.node:
        if node.name in given:
            weight = given[node.name]
            assert found[node.name].shape == (weight.rows.shape[1],) * 2
            energy = np.trace(weight.rows @ found[node.name] @ weight.rows.T)
            shown = onnx.ModelProto()
            shown.CopyFrom(loaded)
            del shown.graph.output[:]
            shown.graph.output.add(name=node.output[0]).type.tensor_type.elem_type = 1
            out = next(iter(Session(shown.SerializeToString()).run(from_dataset(rows)).values()))
            bias = arrays_of(loaded)[node.input[2]]
            plain = out - bias.reshape(-1, *[1] * (out.ndim - 2))
            assert energy == pytest.approx(np.square(plain).sum(1).mean(), rel=1e-3)


def arrays_of(loaded):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in loaded.graph.initializer}


@pytest.mark.parametrize("arch", [CNN, MLP])
def test_few_bits_compute_in_integers_and_stay_within_their_grid(make, judge, arch):
    model, data, task = graph(make, judge, arch)
    made = last(Gptq(bits=3)(model, data, task, judge, 0)).result
    codes = [value for value in arrays(made).values() if value.dtype == np.int8 and value.ndim > 1]
    assert codes
    assert max(np.abs(value.astype(int)).max() for value in codes) == 3
    assert not FLOATS.intersection(executed(made.body.value))
    assert off(model, made, data.test) < 0.05


def test_blocks_of_made_up_weights_run_on_packed_weights(make, judge):
    model, data, task = graph(make, judge, MLP)
    made = last(Gptq(block=16)(model, data, task, judge, 0)).result
    assert executed(made.body.value).count("MatMulNBits") == 3
    assert off(model, made, data.test) < 0.02


def test_half_precision_halves_the_file_and_computes_as_before(make, judge):
    model, data, task = graph(make, judge, MLP)
    made = last(Float16()(model, data, task, judge, 0))
    assert len(made.result.body.value) < 0.6 * len(model.body.value)
    assert executed(made.result.body.value) == executed(model.body.value)
    assert "size only" in made.note
    assert off(model, made.result, data.test) < 1e-3


def test_a_weight_that_half_precision_cannot_hold_stays(make, judge):
    model, data, task = graph(make, judge, MLP, epochs=1)
    loaded, names = opened(model.body.value, 64)
    first, *_ = weights(loaded, names).values()
    replace(loaded, first.name, first.value * 1e6)
    model = model.with_body(loaded.SerializeToString(), "graph", "")
    made = last(Float16()(model, data, task, judge, 0)).result
    kinds = sorted(value.dtype.name for value in arrays(made).values() if value.ndim == 2)
    assert kinds == ["float16", "float16", "float32"]


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (Static(), "3 nodes will compute in 8 bits, weights in 7"),
        (Dynamic(), "3 nodes will compute in 8 bits, weights in 7"),
        (FixedPoint(), "3 nodes will compute in 8 bits, weights in 7, every scale a power of two"),
        (Codebook(), "large weights will share at most 16 values a layer"),
        (Blocks(), "2 nodes will read weights of 4 bits in blocks of 32"),
        (
            Mixed(),
            "3 nodes will be compared in floats, 8 bits and, if matrices, 4 bits; the size may be 40% of what it is",
        ),
        (Smooth(), "3 nodes will compute in 8 bits, 2 values between them smoothed"),
        (Gptq(), "3 nodes will have their 8384 weights rounded to 4 bits"),
        (Float16(), "3 nodes will have weights in 16 bits"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_will_be_done_is_said_before_it_is_done(make, judge, method, words):
    model, data, task = graph(make, judge, MLP, epochs=1)
    assert next(iter(method(model, data, task, judge, 0))).note.startswith(words)


NOTHING = [FixedPoint(), Codebook(), Blocks(), Mixed(), Smooth(), Gptq(), Gptq(block=32), Float16()]


@pytest.mark.parametrize("method", NOTHING, ids=lambda method: type(method).__name__)
def test_where_no_weight_is_worth_it_the_graph_comes_back_with_a_note(make, judge, method):
    model, data, task = graph(make, judge, {"method": "mlp", "width": 2, "depth": 0}, "table", 1)
    made = last(method(model, data, task, judge, 0))
    assert made.result.body.value == model.body.value
    assert "nothing to" in made.note
