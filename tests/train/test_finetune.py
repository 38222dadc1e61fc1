from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
import torch
from torch import nn

from modelmill.contracts import Task
from modelmill.dataset import Splits
from modelmill.errors import ModelError, OutOfBounds
from modelmill.graph.export import export
from modelmill.model import Body, Model, Part
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import Session
from modelmill.train.fit import fit
from modelmill.train.recipe import Recipe
from modelmill.train.start import knows_unit, with_head
from modelmill.train.trainers.adam import Adam
from modelmill.train.trainers.finetune import Finetune
from modelmill.train.training import Training
from modelmill.train.tuning import Tuner, Tuning, layers

CNN = {"method": "cnn", "width": 4, "depth": 3}
MLP = {"method": "mlp", "width": 8, "depth": 2}


def last(progress):
    return list(progress)[-1]


def weights(model):
    return {name: value.clone() for name, value in model.body.value.state_dict().items()}


def trained(make, kind, arch, epochs=10):
    model, data, task = make(kind, arch)
    return last(fit(model, data, task, Recipe(epochs=epochs, batch=32), 0)).result, data, task


def two_classes(model: Model, data: Splits, task: Task):
    """The same rows with another question: whether the class is 0."""
    asked = [replace(part, target=(part.target == 0).astype("int64")) for part in (data.train, data.valid, data.test)]
    signature = msgspec.structs.replace(model.signature, classes=(0, 1), outputs=task.declare((0, 1)))
    return replace(model, signature=signature), Splits(*asked, digest="sha256:1")


def distance(first, second, names):
    return sum(float(((first[name] - second[name]) ** 2).sum()) for name in names) ** 0.5


def test_layers_are_those_with_weights_and_what_follows_them():
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Sequential(nn.Linear(3, 3)), nn.Linear(3, 2)
    )
    found = layers(network)
    assert [[p.shape[0] for p in layer.parameters] for layer in found] == [[3, 3, 3, 3], [3, 3], [2, 2]]
    assert [layer.place for layer in found] == [0, 1, 2]


class Shared(nn.Module):
    """A foreign module: weights of its own, a list of blocks, and one block that stands twice."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 4))
        block = nn.Linear(4, 4)
        self.blocks = nn.ModuleList([block, nn.Linear(4, 4), block])
        self.head = nn.Linear(4, 2)


def test_every_weight_of_a_foreign_module_is_in_one_layer():
    module = Shared()
    found = layers(module)
    names = [p for layer in found for p in layer.parameters]
    assert len(names) == len(set(names)) == len(list(module.parameters()))
    assert found[0].parameters[-1] is module.token
    assert found[-1].parameters == [module.head.weight, module.head.bias]


@pytest.mark.parametrize(
    ("tuning", "thawed"),
    [
        (Tuning(freeze=2), [1, 1, 2, 2, 3, 3, 4, 4, 4]),
        (Tuning(freeze=2, thaw="together"), [1, 1, 4, 4, 4]),
        (Tuning(), [4, 4]),
    ],
)
def test_layers_thaw_from_the_head_down(tuning, thawed):
    network = nn.Sequential(*[nn.Linear(2, 2) for _ in range(4)])
    tuner = Tuner(network, tuning)
    for epoch, count in enumerate(thawed):
        tuner.freeze(epoch)
        assert [layer.weight.requires_grad for layer in network] == [False] * (4 - count) + [True] * count


def test_frozen_layers_and_their_norms_stand_still(make, judge):
    model, data, task = trained(make, "image", CNN, 2)
    before = weights(model)
    result = last(Finetune(epochs=2, freeze=2, average=0)(model, data, task, judge, 0)).result
    after = weights(result)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    head = {name for name in before if name.startswith(str(len(model.body.value) - 1))}
    assert moved == head
    assert all(p.requires_grad for p in result.body.value.parameters())


def test_each_layer_steps_at_a_share_of_the_rate_of_the_one_above(make):
    model, data, task = make("table", MLP)
    training = Training(
        model, data, task, Recipe(epochs=1, schedule="constant", warmup=0), 0, tuning=Tuning(layer_rate=0.5)
    )
    next(training.run())
    rates = {id(p): group["lr"] for group in training.optimizer.param_groups for p in group["params"]}
    linear = [layer for layer in training.module if isinstance(layer, nn.Linear)]
    assert [rates[id(layer.weight)] / 3e-3 for layer in linear] == pytest.approx([0.25, 0.5, 1.0])
    assert [rates[id(layer.bias)] / 3e-3 for layer in linear] == pytest.approx([0.25, 0.5, 1.0])


def test_a_pulled_step_by_hand():
    module = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    nn.init.constant_(module[0].weight, 3.0)
    tuner = Tuner(module, Tuning(pull=0.5))
    with torch.no_grad():
        module[0].weight.fill_(5.0)
    for layer in module:
        layer.weight.grad = torch.zeros(1, 1)
    tuner.pull_gradients()
    assert float(module[0].weight.grad) == 0.5 * (5 - 3)  # the slope of 0.5 / 2 * (w - w0)^2
    assert float(module[1].weight.grad) == 0  # the head is not pulled
    tuner.pull_weights({"params": list(module.parameters()), "lr": 0.1})
    assert float(module[0].weight.detach()) == pytest.approx(5 - 0.1 * 0.5 * 2)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_stronger_pull_stays_nearer_to_the_start(make, judge, optimizer):
    model, data, task = trained(make, "image", CNN, 3)
    asked, rows = two_classes(model, data, task)
    before = weights(model)
    below = [name for name in before if name.endswith("weight") and not name.startswith(str(len(model.body.value) - 1))]
    far = []
    for pull in (0.0, 1.0, 5.0):
        trainer = Finetune(epochs=4, pull=pull, freeze=0, optimizer=optimizer, learning_rate=0.01, weight_decay=0)
        far.append(distance(before, weights(last(trainer(asked, rows, task, judge, 0)).result), below))
    assert far[2] < far[1] < far[0]


def test_a_head_of_another_width_starts_anew_and_the_rest_is_kept(make):
    model, data, task = trained(make, "image", CNN, 2)
    asked, _ = two_classes(model, data, task)
    start = with_head(asked, task, False, 0)
    assert start.body.value[-1].out_features == 2
    assert model.body.value[-1].out_features == 3
    before, after = weights(model), weights(start)
    assert [name for name in before if torch.equal(before[name], after[name])] == list(before)[:-2]
    assert with_head(model, task, False, 0) is model


def test_a_head_may_start_anew_where_its_width_is_right(make):
    model, _, task = trained(make, "image", CNN, 1)
    first, again = (with_head(model, task, True, 3).body.value[-1] for _ in range(2))
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, model.body.value[-1].weight)


def test_what_was_learned_before_helps_where_rows_are_few(make, judge):
    model, data, task = trained(make, "image", CNN)
    asked, rows = two_classes(model, data, task)
    few = replace(rows, train=rows.train.take(range(24)))
    untrained, _, _ = make("image", CNN)
    asked_anew, _ = two_classes(untrained, data, task)
    settings = {"epochs": 8, "learning_rate": 0.01}
    tuned = last(Finetune(**settings)(asked, few, task, judge, 0)).values
    anew = last(Adam(**settings)(with_head(asked_anew, task, False, 0), few, task, judge, 0)).values
    assert tuned["valid_accuracy"] == 1.0
    assert tuned["valid_loss"] < 0.5 * anew["valid_loss"]


def test_a_trained_network_of_values_goes_on_in_its_unit(make, judge):
    model, data, task = trained(make, "regress", MLP, 40)
    assert knows_unit(model, data.train, task)
    assert not knows_unit(with_head(model, task, True, 0), data.train, task)
    first = next(iter(Finetune(epochs=5, learning_rate=1e-6)(model, data, task, judge, 0)))
    wanted = ((Session(export(model, task)).run(from_dataset(data.valid))["value"] - data.valid.target) ** 2).mean()
    assert first.values["valid_loss"] * data.train.target.std() ** 2 == pytest.approx(float(wanted), rel=0.05)


def test_the_input_is_left_as_found_and_the_result_says_what_was_done(make, judge):
    model, data, task = trained(make, "image", CNN, 1)
    asked, rows = two_classes(model, data, task)
    before = weights(model)
    result = last(Finetune(epochs=2)(asked, rows, task, judge, 0)).result
    assert all(torch.equal(before[name], value) for name, value in weights(model).items())
    assert result.history[-2:] == ("a new last layer", "train.finetune: 2 epochs, learning rate 0.003")
    outputs = Session(export(result, task)).run(from_dataset(rows.test))
    assert outputs["probabilities"].shape == (40, 2)


class Imported(nn.Module):
    """A network from elsewhere, made for five classes, that is no Sequential."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.middle = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.fc = nn.Linear(8 * 16, 5)

    def forward(self, x):
        return self.fc(self.middle(self.norm(self.stem(x)).relu()).relu().flatten(1))


def test_an_imported_network_gets_a_head_that_fits_and_learns(make, judge):
    model, data, task = make("image", CNN)
    imported = Model((Part(Body("network", Imported()), model.part.prepare),), model.signature)
    final = last(Finetune(epochs=8, learning_rate=0.01)(imported, data, task, judge, 0))
    assert final.values["valid_accuracy"] > 0.9
    assert type(final.result.body.value) is Imported
    assert final.result.body.value.fc.out_features == 3
    assert imported.body.value.fc.out_features == 5


def test_a_network_that_ends_in_no_linear_layer_cannot_get_a_new_head(make):
    model, _, task = make("image", CNN)
    convolution = Body("network", nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten()))
    foreign = Model((Part(convolution, model.part.prepare),), model.signature)
    assert with_head(foreign, task, False, 0) is foreign
    with pytest.raises(ModelError, match="no linear layer"):
        with_head(foreign, task, True, 0)


def test_a_rate_that_grows_downwards_is_refused():
    with pytest.raises(OutOfBounds, match=r"finetune\.layer_rate"):
        Finetune(layer_rate=1.5)
