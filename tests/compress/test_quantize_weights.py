"""Weights stored in another form: codebooks, and blocks of few bits."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from quantized import answers, arrays, graph, last, off, proto, replace

from modelmill.compress.quantize.blocked import blocked
from modelmill.compress.quantize.blocks import Blocks
from modelmill.compress.quantize.calibrate import opened
from modelmill.compress.quantize.codebook import Codebook
from modelmill.compress.quantize.executed import executed
from modelmill.compress.quantize.sharing import clustered, shared
from modelmill.compress.quantize.stored import upgrade
from modelmill.compress.quantize.weights import weights
from modelmill.errors import ModelError
from modelmill.graph.export import export
from modelmill.store.packing.packed import pack
from modelmill.train.trainers.adam import Adam

MLP = {"method": "mlp", "width": 64, "depth": 2}


def scales(model):
    """All scales of the pairs of a graph."""
    known = arrays(model)
    pairs = [node for node in proto(model).node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    return np.concatenate([known[node.input[1]].ravel() for node in pairs])


def test_the_gradient_of_a_centroid_is_the_sum_of_those_of_its_weights():
    layer = torch.nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 5.0, 1.0]]))
    looked = shared(layer, 2)
    assert looked.table.tolist() == [1, 5]
    looked(torch.tensor([[2.0, 3.0, 40.0]])).sum().backward()
    assert looked.table.grad.tolist() == [42, 3]


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


def test_biases_of_shared_layers_keep_as_many_bits_as_asked_for_and_preparation_keeps_all(make, judge):
    model, data, task = graph(make, judge, MLP)
    plain, short = (last(Codebook(precision=bits)(model, data, task, judge, 0)).result for bits in (0, 8))
    before, after = arrays(plain), arrays(short)
    changed = [name for name in before if not np.array_equal(before[name], after[name])]
    assert {before[name].ndim for name in changed} == {1}
    for name in changed:
        assert not np.any(after[name].view(np.uint32) & 0xFFFF), "the lower half of a float is zero"
        assert np.abs(after[name] / before[name] - 1).max() <= 2**-8
    assert len(changed) == 2
    assert len(pack(short.body.value)) < len(pack(plain.body.value))


def test_a_model_before_sharing_guides_the_training_of_the_values(make, judge):
    model, data, task = make("image", MLP)
    model = last(Adam(epochs=10)(model, data, task, judge, 0)).result
    said = answers(model.with_body(export(model, task), "graph", ""), data.train)["probabilities"]
    apart = {}
    for share in (0.0, 1.0):
        step = Codebook(bits=1, epochs=10, learning_rate=0.01, teacher=share)
        made = last(step(model, data, task, judge, 0)).result
        apart[share] = np.abs(answers(made, data.train)["probabilities"] - said).mean()
    assert apart[1.0] < apart[0.0]


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
