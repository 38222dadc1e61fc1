"""Students that begin with weights of the model, that are wider than it, that follow each other or learn together."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from modelmill.compress.distill.born_again import BornAgain
from modelmill.compress.distill.larger import Larger
from modelmill.compress.distill.mutual import Mutual
from modelmill.compress.distill.parameters import Parameters
from modelmill.compress.distill.soft import Soft
from modelmill.compress.distill.student import best, divergence, peers
from modelmill.compress.distill.widening import widen
from modelmill.compress.input.prepare import Prepare
from modelmill.compress.prune.magnitude import Magnitude
from modelmill.dataset import Splits
from modelmill.graph.export import export
from modelmill.network.graphbody import Graph
from modelmill.network.slicing import channels, widths
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import Session
from modelmill.train.trainers.adam import Adam

MLP = {"method": "mlp", "width": 16, "depth": 2}
NETWORKS = [
    ("table", MLP),
    ("image", {"method": "cnn", "width": 4, "depth": 2}),
    ("image", {"method": "cnn", "width": 4, "depth": 2, "blocks": 2, "residual": True, "head": "average"}),
    ("image", {"method": "cnn", "width": 3, "depth": 3, "norm": False}),
]


def trained(make, judge, kind, arch, epochs=6):
    model, data, task = make(kind, arch)
    return list(Adam(epochs=epochs)(model, data, task, judge, 0))[-1].result, data, task


def inputs(network, kind):
    shape = (5, 1, 8, 8) if kind == "image" else (5, network[0].in_features)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_softened_divergence_is_that_of_a_hand_computation():
    raw, told = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[0.0, 0.0], [1.0, 3.0]])

    def soft(values):
        shares = np.exp(values / 2)
        return shares / shares.sum(axis=1, keepdims=True)

    wanted = 4 * (soft(told) * np.log(soft(told) / soft(raw))).sum(axis=1).mean()
    assert float(divergence(torch.tensor(raw), torch.tensor(told), 2.0)) == pytest.approx(wanted)


def test_peers_say_the_mean_of_their_softened_probabilities():
    first, second = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([[0.0, 3.0, 1.0]])
    said = peers([lambda _: first, lambda _: second], True, 2.0)(torch.zeros(1))
    wanted = ((first / 2).softmax(1) + (second / 2).softmax(1)) / 2
    assert torch.allclose((said / 2).softmax(1), wanted)
    assert peers([lambda _: first, lambda _: second], False, 2.0)(torch.zeros(1)).tolist() == [[1.0, 1.5, 1.0]]


def test_the_best_is_the_last_of_equal_ones_and_no_number_is_the_worst():
    def place(*found):
        return best(list(range(len(found))), lambda number: found[number])

    assert place(0.5, 0.9, 0.7) == 1
    assert place(0.9, 0.9, 0.7) == 1
    assert place(math.nan, 0.1) == 1
    assert place(math.nan, math.nan, math.nan) == 2


def test_a_student_begins_with_the_largest_weights_of_its_teacher(make, judge):
    model, data, task = trained(make, judge, "table", {**MLP, "norm": False})
    first, last = Parameters(ratio=0.5, epochs=0)(model, data, task, judge, 0)
    mine, theirs = last.result.body.value[0].weight, model.body.value[0].weight
    largest = theirs.norm(dim=1).argsort(descending=True)[:8].sort().values
    assert torch.equal(mine, theirs[largest])
    assert "0: 16 to 8" in first.note


def test_every_second_block_stays(make, judge):
    arch = {"method": "cnn", "width": 4, "depth": 1, "blocks": 5, "residual": True}
    model, data, task = make("image", arch)
    first, last = Parameters(ratio=1, every=2, epochs=0)(model, data, task, judge, 0)
    assert "3 of 5 blocks" in first.note
    kinds = [type(module).__name__ for module in last.result.body.value]
    assert kinds.count("Residual") == 3
    assert torch.equal(last.result.body.value[4].body[0].weight, model.body.value[5].body[0].weight)


def test_a_pruned_cell_stays_where_it_no_longer_gives_what_it_takes(make, judge):
    arch = {"method": "cell", "width": 8, "join": "concat", "depth": 2, "stages": 1}
    model, data, task = make("image", arch)
    first, last = Parameters(ratio=1, every=2, epochs=0)(model, data, task, judge, 0)
    assert "1 of 2 blocks" in first.note
    *_, pruned = Magnitude(epochs=0, multiple=1)(model, data, task, judge, 0)
    first, last = Parameters(ratio=0.5, epochs=0)(pruned.result, data, task, judge, 0)
    assert "blocks" not in first.note
    assert sum(isinstance(child, Graph) for child in last.result.body.value) == 2
    export(last.result, task)


def test_a_student_of_all_weights_is_the_model_itself(make, judge):
    model, data, task = make("table", MLP)
    (last,) = Parameters(ratio=1, every=1)(model, data, task, judge, 0)
    assert last.result is model
    assert "nothing is left out" in last.note


def test_a_student_with_weights_of_its_teacher_learns_fast(make, judge):
    model, data, task = trained(make, judge, "image", {"method": "cnn", "width": 8, "depth": 2}, epochs=10)
    *_, last = Parameters(ratio=0.5, epochs=4)(model, data, task, judge, 0)
    assert last.values["valid_accuracy"] > 0.9


@pytest.mark.parametrize(("kind", "arch"), NETWORKS)
def test_a_wider_network_answers_as_before(make, judge, kind, arch):
    model, _, _ = trained(make, judge, kind, arch, epochs=2)
    network = model.body.value.eval()
    wide = copy.deepcopy(network)
    widen(wide, [2 * group.width + 1 for group in channels(wide)], 0.0, 0)
    assert [group.width for group in channels(wide)] == [2 * group.width + 1 for group in channels(network)]
    rows = inputs(network, kind)
    assert torch.allclose(network(rows), wide(rows), atol=1e-5)


def test_copies_of_a_channel_begin_apart(make):
    model, _, _ = make("table", MLP)
    network = copy.deepcopy(model.body.value)
    widen(network, [32, 32], 0.05, 0)
    rows = network[0].weight.detach()
    assert torch.equal(rows[:16], model.body.value[0].weight)
    assert all(not torch.equal(row, other) for row in rows[16:] for other in rows[:16])


def test_a_larger_student_has_the_arch_of_its_size(make, judge):
    model, data, task = trained(make, judge, "image", {"method": "cnn", "width": 4, "depth": 2})
    first, *_, last = Larger(factor=2, epochs=0, noise=0)(model, data, task, judge, 0)
    assert last.result.body.arch["width"] == 8
    assert [group.width for group in channels(last.result.body.value)] == [8, 8, 12]
    assert "larger and slower" in first.note
    rows = from_dataset(data.test)
    before, after = (Session(export(one, task)).run(rows) for one in (model, last.result))
    assert np.allclose(before["probabilities"], after["probabilities"], atol=1e-5)


def test_a_linear_model_has_nothing_to_widen(make, judge):
    model, data, task = make("table", {**MLP, "depth": 0})
    (last,) = Larger()(model, data, task, judge, 0)
    assert last.result is model


def test_the_best_generation_is_given_and_the_model_is_among_them(make, judge):
    model, data, task = trained(make, judge, "table", MLP)
    seen = []

    def prefer(place):
        seen.clear()

        def quality(one):
            seen.append(one)
            return float(len(seen) - 1 == place)

        return quality

    step = BornAgain(generations=2, epochs=2)
    *_, last = step(model, data, task, prefer(0), 0)
    assert last.result is model
    assert "no generation was better" in last.note
    *_, last = step(model, data, task, prefer(1), 0)
    assert last.result is seen[1]
    assert last.note == "generation 1 of 2"
    assert last.result.history[-1].startswith("distill.born_again, generation 1")


def test_progress_counts_the_epochs_of_all_generations(make, judge):
    model, data, task = make("table", MLP)
    steps = [progress.step for progress in BornAgain(generations=2, epochs=3)(model, data, task, judge, 0)]
    assert steps == [0, 1, 2, 3, 4, 5, 6, 6]


def test_students_that_learn_together_hear_each_other(make, judge):
    model, data, task = trained(make, judge, "image", {"method": "cnn", "width": 8, "depth": 1}, epochs=10)
    alone, together = (
        list(Mutual(epochs=3, share=share, teacher=False)(model, data, task, judge, 0))[-1].result.body.value[0].weight
        for share in (0.0, 0.5)
    )
    assert not torch.equal(alone, together)
    *_, last = Mutual(epochs=10)(model, data, task, judge, 0)
    assert last.values["valid_accuracy"] > 0.9
    assert last.result.body.value[0].out_channels == 4


def test_the_best_of_the_students_is_given(make, judge):
    model, data, task = make("table", MLP)
    seen = []

    def prefer(one):
        seen.append(one)
        return float(len(seen) == 2)

    *_, last = Mutual(epochs=1, students=3)(model, data, task, prefer, 0)
    assert last.result is seen[1]
    assert last.note == "student 2 of 3: the best on validation rows"
    none = Splits(data.train, data.valid.take(np.zeros(0, np.int64)), data.test)
    *_, last = Mutual(epochs=1, students=3)(model, none, task, lambda one: math.nan, 0)
    assert last.note == "student 3 of 3: without validation rows to judge by"


@pytest.mark.parametrize("kind", ["table", "image"])
def test_a_student_of_a_pruned_network_is_narrower_than_that(make, judge, kind):
    """Its arch still says what was there before: a student of half of that would be as wide, or wider."""
    arch = MLP if kind == "table" else {"method": "cnn", "width": 8, "depth": 2, "blocks": 2, "residual": True}
    model, data, task = trained(make, judge, kind, arch, epochs=1)
    steps = [Magnitude(ratio=0.75, multiple=1, epochs=0), Soft(ratio=0.5, epochs=1), BornAgain(generations=1, epochs=1)]
    *_, pruned = steps[0](model, data, task, judge, 0)
    now = widths(pruned.result.body.value)
    *_, student = steps[1](pruned.result, data, task, judge, 0)
    assert widths(student.result.body.value) == [max(1, round(width / 2)) for width in now]
    assert max(now) < max(widths(model.body.value))
    *_, again = steps[2](pruned.result, data, task, lambda one: float(one is not pruned.result), 0)
    assert widths(again.result.body.value) == now


def test_a_pruned_network_stays_so_where_its_features_change(make, judge):
    model, data, task = trained(make, judge, "table", MLP, epochs=1)
    *_, pruned = Magnitude(ratio=0.5, multiple=1, epochs=0)(model, data, task, judge, 0)
    *_, made = Prepare(keep=0.5, epochs=1)(pruned.result, data, task, judge, 0)
    assert widths(made.result.body.value) == widths(pruned.result.body.value) == [8, 8]
