"""Product quantization: runs of weights from a table, by what the layer answers, in a graph that looks them up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from quantized import answers, arrays, graph, last, off
from torch import nn

from modelmill.compress.share.clusters import clustered
from modelmill.compress.share.product import Product
from modelmill.compress.share.runs import metrics, shareable, shared
from modelmill.graph.export import export
from modelmill.store.packing.packed import pack
from modelmill.train.trainers.adam import Adam

MLP = {"method": "mlp", "width": 64, "depth": 2}


def test_four_vectors_in_two_heaps_have_two_centers():
    vectors = np.array([[0, 0], [0, 2], [10, 10], [10, 12]], np.float32)
    centers, codes = clustered(vectors, 2, seed=0)
    assert sorted(centers.tolist()) == [[0, 1], [10, 11]]
    assert codes[0] == codes[1] != codes[2] == codes[3]


def test_vectors_of_few_kinds_come_back_to_the_bit():
    kinds = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    picked = np.random.default_rng(1).integers(0, 5, 200)
    centers, codes = clustered(kinds[picked], 8, seed=0)
    assert len(centers) == 5
    assert np.array_equal(centers[codes], kinds[picked])


def test_a_metric_keeps_what_it_weighs():
    vectors = np.random.default_rng(2).normal(size=(400, 2)).astype(np.float32)
    centers, codes = clustered(vectors, 8, seed=0, metric=np.diag([100.0, 0.01]))
    first, second = ((vectors - centers[codes]) ** 2).mean(0)
    assert first < 0.05 * second


def test_no_center_stays_empty():
    heap = np.random.default_rng(3).normal(size=(300, 2)) * 1e-3
    vectors = np.concatenate([heap, heap[:2] + 5]).astype(np.float32)
    _, codes = clustered(vectors, 16, seed=1)
    assert len(np.unique(codes)) == 16


def test_the_metric_of_a_convolution_is_that_of_its_patches():
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, 2, padding=1)
    x = torch.randn(4, 2, 3, 3)
    found = metrics(layer, x, {layer: 4})[layer]
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    runs = [
        padded[row, channel, i : i + 2, j : j + 2].ravel()
        for row in range(4)
        for channel in range(2)
        for i in range(4)
        for j in range(4)
    ]
    wanted = np.mean([np.outer(run, run) for run in runs], axis=0)
    assert np.allclose(found - np.diag(np.diag(found)), wanted - np.diag(np.diag(wanted)), atol=1e-6)


def test_runs_by_their_metric_change_the_answers_of_a_layer_less():
    torch.manual_seed(1)
    layer = nn.Linear(64, 64)
    x = torch.randn(500, 64) * torch.tensor([5.0, 0.2, 1.0, 0.1]).repeat(16)
    wanted = layer(x)
    metric = metrics(layer, x, {layer: 4})[layer]
    errors = [
        float((shared(layer, 4, 16, 0, matrix)(x) - wanted).detach().pow(2).mean()) for matrix in (metric, np.eye(4))
    ]
    assert errors[0] < 0.7 * errors[1]


def test_the_gradient_of_a_run_is_the_sum_over_the_places_that_share_it():
    layer = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0, 1.0, 2.0]]))
    looked = shared(layer, 2, 4, 0, np.eye(2))
    assert looked.table.tolist() == [[1, 2]]
    looked(torch.tensor([[3.0, 4.0, 50.0, 60.0]])).sum().backward()
    assert looked.table.grad.tolist() == [[53, 64]]


def test_only_large_layers_with_rows_that_runs_fit_in_are_shared():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(7, 40), nn.Linear(40, 40), nn.Linear(40, 2))
    assert {type(layer): length for layer, length in shareable(network, 4, 200).items()} == {nn.Conv2d: 3, nn.Linear: 4}
    assert len(shareable(network, 4, 200)) == 2


@pytest.mark.parametrize(("bits", "share"), [(4, 0.11), (8, 0.27)])
def test_a_graph_looks_runs_up_and_answers_as_before(make, judge, bits, share):
    model, data, task = graph(make, judge, MLP)
    step = Product(bits=bits, smallest=1024)
    made = last(step(model, data, task, judge, 0))
    assert len(made.result.body.value) < share * len(model.body.value) + 4000
    tables = [value for value in arrays(made.result).values() if value.ndim == 2 and value.shape[1] == 4]
    assert len(tables) == 2
    assert all(len(table) <= 2**bits for table in tables)
    assert "size only" in made.note
    assert off(model, made.result, data.test) < (0.2 if bits == 4 else 0.08)


def test_a_network_is_trained_again_and_its_graph_answers_as_it(make, judge):
    torch.set_num_threads(1)
    model, data, task = make("image", MLP)
    model = last(Adam(epochs=10)(model, data, task, judge, 0)).result
    whole = model.with_body(export(model, task), "graph", "")
    errors = {}
    for epochs in (0, 8):
        step = Product(bits=4, smallest=1024, epochs=epochs, learning_rate=0.01, teacher=1.0)
        made = last(step(model, data, task, judge, 0)).result
        said = answers(made, data.train)["probabilities"]
        errors[epochs] = np.abs(said - answers(whole, data.train)["probabilities"]).mean()
    assert errors[8] < errors[0]


def test_the_stored_form_is_smaller_than_what_is_served(make, judge):
    model, data, task = graph(make, judge, {"method": "mlp", "width": 128, "depth": 2})
    made = last(Product(bits=4)(model, data, task, judge, 0)).result
    assert len(pack(made.body.value)) < len(made.body.value) < 0.3 * len(model.body.value)


def test_a_model_without_large_weights_comes_through_with_a_note(make, judge):
    model, data, task = graph(make, judge, {"method": "mlp", "width": 8, "depth": 1})
    made = last(Product()(model, data, task, judge, 0))
    assert made.result.body.value == model.body.value
    assert "nothing to share" in made.note
