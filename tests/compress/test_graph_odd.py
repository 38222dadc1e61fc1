"""Odd but legal files: factors of Gemm, old opsets, layers without biases, weights of two readers, graphs within."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from outside import FLOAT, applied, differ, model_of, normal, proto, rows

from modelmill.compress.convert.clean import Clean
from modelmill.compress.distill.tree import Tree
from modelmill.compress.prune.subset import Subset
from modelmill.compress.quantize.blocks import Blocks
from modelmill.compress.quantize.codebook import Codebook
from modelmill.compress.quantize.dynamic import Dynamic
from modelmill.compress.quantize.float16 import Float16
from modelmill.compress.quantize.gptq import Gptq
from modelmill.compress.quantize.mixed import Mixed
from modelmill.compress.quantize.smooth import Smooth
from modelmill.compress.quantize.static import Static
from modelmill.compress.share.product import Product
from modelmill.errors import ModelError
from modelmill.runtime.session import Session


def gemms(opset=17, bias=(32,), folded=False, alpha=1.0, beta=1.0):
    """Two Gemms, with those factors, and a first bias of that shape; or the same said without either."""
    factors = {} if folded else {"alpha": alpha, "beta": beta}
    nodes = [
        ("Gemm", ["x", "w0", "b0"], ["h"], factors),
        ("Relu", ["h"], ["r"], {}),
        ("Gemm", ["r", "w1", "b1"], ["y"], factors),
    ]
    constants = {
        "w0": normal(64, 32),
        "b0": normal(*bias, seed=1, scale=1),
        "w1": normal(32, 10, seed=2),
        "b1": normal(10, seed=3, scale=1),
    }
    if folded:
        constants = {name: value * np.float32(alpha if name[0] == "w" else beta) for name, value in constants.items()}
        constants["b0"] = np.broadcast_to(constants["b0"].ravel(), (32,)).copy()
    return model_of(proto(nodes, {"x": ["N", 64]}, {"y": ["N", 10]}, constants, opset))


def before_and_after(model, step):
    """The bytes of a model and of what a step makes of it, the last note, and how far the answers differ."""
    data = rows(model)
    last = applied(step, model, data)
    after = last.result.body.value
    return model.body.value, after, last.note, differ(model.body.value, after, dict(data.test.columns))


@pytest.mark.parametrize("step", [Static(), Smooth(), Gptq(), Dynamic(), Blocks(bits=8)])
@pytest.mark.parametrize("settings", [{"beta": 2.0}, {"alpha": 0.5}, {"bias": (1,)}, {"bias": (1, 32)}])
def test_factors_and_short_biases_of_a_gemm_are_part_of_what_is_rounded(step, settings):
    before, after, note, off = before_and_after(gemms(**settings), step)
    *_, same = before_and_after(gemms(**settings, folded=True), step)
    assert off == pytest.approx(same, rel=0.05), note
    assert len(after) < len(before) / 1.8, note


@pytest.mark.parametrize("step", [Static(), Dynamic(), Smooth()])
@pytest.mark.parametrize("opset", [9, 10])
def test_a_file_of_an_old_opset_is_brought_to_one_that_knows_integers(step, opset):
    before, after, note, off = before_and_after(gemms(opset), step)
    *_, same = before_and_after(gemms(17), step)
    assert off == pytest.approx(same, rel=0.05), note
    assert len(after) < len(before) / 1.8, note


def test_what_makes_up_for_lost_channels_is_cut_with_the_layer_that_has_no_bias():
    nodes = [
        ("Conv", ["x", "k0"], ["c0"], {"pads": [1] * 4}),
        ("Relu", ["c0"], ["r0"], {}),
        ("Conv", ["r0", "k1"], ["c1"], {"pads": [1] * 4}),
        ("Relu", ["c1"], ["r1"], {}),
        ("GlobalAveragePool", ["r1"], ["p"], {}),
        ("Flatten", ["p"], ["f"], {}),
        ("Gemm", ["f", "w", "b"], ["y"], {}),
    ]
    constants = {
        "k0": normal(16, 3, 3, 3),
        "k1": normal(24, 16, 3, 3, seed=1),
        "w": normal(24, 10, seed=2),
        "b": normal(10, seed=3),
    }
    model = model_of(proto(nodes, {"x": ["N", 3, 8, 8]}, {"y": ["N", 10]}, constants))
    before, after, note, _ = before_and_after(model, Subset(ratio=0.5))
    assert len(after) < len(before) / 2, note
    weights = {tuple(t.dims) for t in onnx.load_from_string(after).graph.initializer}
    assert (12, 8, 3, 3) in weights


def branches(opset, within="", last=True):
    """An If whose branches read one large weight each, which they hold themselves as what `within` says.

    last: whether there is a large weight behind it, too.
    """
    held = {name: numpy_helper.from_array(normal(64, 32, seed=seed), name) for seed, name in enumerate(("w0", "w1"))}

    def branch(name):
        made = [helper.make_node("MatMul", ["x", name], [f"{name}_y"])]
        if within == "Constants":
            made.insert(0, helper.make_node("Constant", [], [name], value=held[name]))
        inner = [held[name]] if within == "initializers" else []
        output = helper.make_tensor_value_info(f"{name}_y", FLOAT, ["N", 32])
        return helper.make_graph(made, name, [], [output], inner)

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Greater", ["s", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["h"], then_branch=branch("w0"), else_branch=branch("w1")),
        helper.make_node("MatMul", ["h", "w2"], ["y"]) if last else helper.make_node("Relu", ["h"], ["y"]),
    ]
    constants = {"zero": np.float32(0), "w2": normal(32, 32, seed=2)}
    graph = helper.make_graph(
        nodes,
        "branches",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 64])],
        [helper.make_tensor_value_info("y", FLOAT, ["N", 32])],
        [
            *(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()),
            *([] if within else held.values()),
        ],
    )
    return model_of(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8))


@pytest.mark.parametrize("within", ["", "initializers", "Constants"])
@pytest.mark.parametrize("step", [Blocks(bits=4), Codebook(), Product(bits=4, length=2, smallest=256)])
@pytest.mark.parametrize("opset", [13, 17, 20])
def test_weights_that_branches_read_are_stored_in_fewer_bits_at_any_opset(opset, step, within):
    before, after, note, off = before_and_after(branches(opset, within), step)
    onnx.checker.check_model(onnx.load_from_string(after))
    assert len(after) < len(before) / 3, note
    assert 0 < off < (1 if isinstance(step, Product) else 0.3)


@pytest.mark.parametrize("step", [Codebook(bits=8), Product(bits=8, smallest=256)])
@pytest.mark.parametrize(("opset", "bits"), [(17, 8), (20, 8), (21, 4)])
def test_codes_of_few_values_are_4_bits_where_the_operators_know_these_and_else_bytes(step, opset, bits):
    signs = np.sign(normal(64, 64))
    nodes = [("MatMul", ["x", "w"], ["h"], {}), ("Relu", ["h"], ["y"], {})]
    model = model_of(proto(nodes, {"x": ["N", 64]}, {"y": ["N", 64]}, {"w": signs.astype("f")}, opset))
    before, after, _, off = before_and_after(model, step)
    onnx.checker.check_model(onnx.load_from_string(after))
    assert off < 1e-6, "two values, or 16 runs of four, say all there is"
    codes = 64 * 64 if isinstance(step, Codebook) else 64 * 64 // 4
    assert codes * bits / 8 < len(after) < codes * bits / 8 + 800
    assert len(after) < len(before)


def test_weights_are_rounded_by_what_a_gemm_reads_though_its_rows_are_columns():
    constants = {"w": normal(64, 32), "b": normal(32, seed=1)}
    shapes = {"x": ["N", 64]}, {"y": ["N", 32]}
    straight = model_of(proto([("Gemm", ["x", "w", "b"], ["y"], {})], *shapes, constants))
    nodes = [("Transpose", ["x"], ["t"], {"perm": [1, 0]}), ("Gemm", ["t", "w", "b"], ["y"], {"transA": 1})]
    turned = model_of(proto(nodes, *shapes, constants))
    *_, note, off = before_and_after(turned, Gptq(bits=4))
    assert off == pytest.approx(before_and_after(straight, Gptq(bits=4))[-1], rel=0.05), note


def test_nodes_that_read_one_weight_have_one_precision():
    nodes = [
        ("MatMul", ["x", "w0"], ["h0"], {}),
        ("Relu", ["h0"], ["r0"], {}),
        ("MatMul", ["r0", "w0"], ["h1"], {}),
        ("Relu", ["h1"], ["r1"], {}),
        ("MatMul", ["r1", "w1"], ["y"], {}),
    ]
    constants = {"w0": normal(64, 64, scale=0.2), "w1": normal(64, 32, seed=1, scale=0.2)}
    model = model_of(proto(nodes, {"x": ["N", 64]}, {"y": ["N", 32]}, constants))
    *_, eight = before_and_after(model, Static())
    before, after, note, off = before_and_after(model, Mixed(ratio=0.4))
    assert len(after) <= 0.4 * len(before), note
    assert "within the limit" in note
    assert off < 2 * eight


def test_what_the_quantizer_cannot_write_is_refused_in_words():
    nodes = [
        ("GroupNormalization", ["x", "scale", "shift"], ["n"], {"num_groups": 2}),
        ("Relu", ["n"], ["r"], {}),
        ("Conv", ["r", "k", "b"], ["y"], {}),
    ]
    constants = {"scale": np.ones(8, "f"), "shift": np.zeros(8, "f"), "k": normal(16, 8, 3, 3), "b": normal(16, seed=1)}
    model = model_of(proto(nodes, {"x": ["N", 8, 8, 8]}, {"y": ["N", 16, 6, 6]}, constants, 21))
    with pytest.raises(ModelError, match="integers cannot be written"):
        before_and_after(model, Static())


@pytest.mark.parametrize(("step", "types"), [(Static(), "Conv, Gemm or MatMul"), (Blocks(), "Gemm or MatMul")])
def test_a_note_that_nothing_is_quantized_says_what_stands_in_the_way(step, types):
    nodes = [
        ("Transpose", ["x"], ["t"], {"perm": [1, 0]}),
        ("MatMul", ["w", "t"], ["h"], {}),
        ("Transpose", ["h"], ["y"], {"perm": [1, 0]}),
    ]
    left = model_of(proto(nodes, {"x": ["N", 64]}, {"y": ["N", 32]}, {"w": normal(32, 64)}))
    before, after, note, _ = before_and_after(left, step)
    assert after == before
    assert f"no {types} multiplies by a constant float32 weight" in note
    assert note.endswith("stay: 1 on the left of a MatMul (export the model with it on the right, as x @ w)")


def test_a_note_that_nothing_is_quantized_tells_of_weights_that_branches_read():
    model = branches(17, "initializers", last=False)
    before, after, note, _ = before_and_after(model, Static())
    assert after == before
    assert note.endswith("stay: 2 read within a branch or a loop")


@pytest.mark.parametrize("kind", ["float64", "float16"])
@pytest.mark.parametrize("step", [Static(), Dynamic(), Blocks(), Mixed(), Gptq(), Smooth(), Float16(), Codebook()])
def test_a_note_that_nothing_is_quantized_says_what_makes_other_floats_float32(step, kind):
    nodes = [
        ("Cast", ["x"], ["c"], {"to": int(helper.np_dtype_to_tensor_dtype(np.dtype(kind)))}),
        ("MatMul", ["c", "w"], ["h"], {}),
        ("Cast", ["h"], ["y"], {"to": FLOAT}),
    ]
    model = model_of(proto(nodes, {"x": ["N", 64]}, {"y": ["N", 32]}, {"w": normal(64, 32).astype(kind)}))
    before, after, note, _ = before_and_after(model, step)
    assert after == before
    assert f"1 in {kind} (no step changes that: export the model in float32" in note


def test_weights_that_16_bits_do_not_reach_are_no_weights_that_are_not_there():
    nodes = [("MatMul", ["x", "w"], ["y"], {})]
    model = model_of(proto(nodes, {"x": ["N", 64]}, {"y": ["N", 32]}, {"w": normal(64, 32, scale=1e6)}))
    before, after, note, _ = before_and_after(model, Float16())
    assert after == before
    assert note == "nothing to quantize: 16 bits do not reach the numbers of any of 1 large weights"


@pytest.mark.parametrize("step", [Gptq(bits=7), Subset(ratio=0.5, multiple=1)])
def test_a_convolution_over_three_axes_is_no_reason_to_refuse(step):
    """With 7 bits, since processors without VNNI add up 8 of them in sums that overflow."""
    nodes = [
        ("Conv", ["x", "k0", "b0"], ["c0"], {"pads": [1] * 6}),
        ("Relu", ["c0"], ["r0"], {}),
        ("Conv", ["r0", "k1", "b1"], ["c1"], {}),
        ("GlobalAveragePool", ["c1"], ["p"], {}),
        ("Flatten", ["p"], ["f"], {}),
        ("Gemm", ["f", "w"], ["y"], {}),
    ]
    constants = {
        "k0": normal(8, 2, 3, 3, 3),
        "b0": normal(8),
        "k1": normal(16, 8, 3, 3, 3, scale=0.1),
        "b1": normal(16),
    }
    constants["w"] = normal(16, 8)
    model = model_of(proto(nodes, {"x": ["N", 2, 5, 5, 5]}, {"y": ["N", 8]}, constants))
    before, after, note, off = before_and_after(model, step)
    assert len(after) < len(before), note
    assert off < (0.1 if isinstance(step, Gptq) else 1)
    if isinstance(step, Subset):
        assert "1 nodes layers were cut (16 to 8 channels, 1 stay whole, as what reads them is too wide or goes" in note


def test_a_file_of_tensors_teaches_no_tree():
    model = gemms()
    other = model.__class__(model.parts, model.signature.__class__("compute", model.signature.inputs, ()))
    with pytest.raises(ModelError, match="nobody has said which output is to be learned"):
        applied(Tree(), other, rows(model))


def test_what_is_written_of_an_old_format_is_valid_as_it_stands():
    made = onnx.load_from_string(gemms(9).body.value)
    made.ir_version = 3
    made.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, FLOAT, list(tensor.dims)) for tensor in made.graph.initializer
    )
    made.graph.node.insert(0, helper.make_node("Identity", ["x"], ["same"]))
    made.graph.node[1].input[0] = "same"
    model = gemms(9)
    old = model.with_body(made.SerializeToString(), "graph", "")
    after = applied(Clean(), old, rows(model)).result.body.value
    onnx.checker.check_model(onnx.load_from_string(after))
    assert Session(after).run(dict(rows(model).test.columns))["y"].shape == (64, 10)
