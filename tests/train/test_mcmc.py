"""The trainer: what it gives, what it says of itself, and that a kill changes nothing."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from modelmill.data.read import read as load
from modelmill.data.split import split
from modelmill.dataset import Splits
from modelmill.errors import OutOfBounds, SourceError, WorkError
from modelmill.graph.export import export
from modelmill.method import decode
from modelmill.metrics.score import score
from modelmill.mill import build
from modelmill.model import Body, Model, Part
from modelmill.network.mixture import Mixture, like, mixed
from modelmill.prepare.chain import defaults, prepare
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import Session
from modelmill.signature import Signature
from modelmill.store.home import Home
from modelmill.task.classify import Classify
from modelmill.train.answer import forward
from modelmill.train.chains.chain import Chain, Chunk, read
from modelmill.train.chains.consensus import spread
from modelmill.train.rows import rows
from modelmill.train.trainers.adam import Adam
from modelmill.train.trainers.mcmc import Mcmc

MLP = {"method": "mlp", "width": 8, "depth": 1}
CNN = {"method": "cnn", "width": 4, "depth": 2, "dropout": 0.2}
QUICK = {"epochs": 6, "cycles": 2, "chunk": 2}


def last(progress):
    return list(progress)[-1]


def weights(model):
    return {name: value.clone() for name, value in model.body.value.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def answers(model, data, task):
    return Session(export(model, task)).run_batches(from_dataset(data), list(task.outputs))


def builtin(name):
    """A small network for a built-in set, untrained; its rows, and its task."""
    splits, task = split(load({"method": "builtin", "name": name}), 0, "classify"), Classify()
    fields, classes = splits.train.fields, tuple(sorted(set(splits.train.target.tolist())))
    signature = Signature("classify", fields, task.declare(classes), classes, "y")
    kind = "image" if fields[0].kind == "image" else "table"
    prepared = prepare([decode("prepare", step) for step in defaults(fields, kind)], splits.train, "table")
    arch = {"method": "mlp", "width": 16}
    body = Body("network", decode("arch", arch)(signature, prepared.shape, 0), arch)
    return Model((Part(body, prepared.fragment),), signature), splits, task


def log_losses(result, data, task):
    """The log loss of a mixture, and those of its members."""
    part = rows(result, data, task)
    networks = [result.body.value, *result.body.value.members]
    return [float(task.loss(forward(network, part.features), part.encoded, None, 0.0)) for network in networks]


@pytest.mark.parametrize("name", ["breast_cancer", "digits"])
def test_the_average_is_not_worse_than_a_draw_and_as_good_as_a_trained_network(name, judge):
    model, data, task = builtin(name)
    result = last(Mcmc(epochs=12, members=4)(model, data, task, judge, 0)).result
    average, *members = log_losses(result, data.test, task)
    assert len(members) == 4
    assert average < np.mean(members)
    trained = last(Adam(epochs=12)(model, data, task, judge, 0)).result
    found, wanted = (
        score(["log_loss"], answers(one, data.test, task), data.test.target, one.signature.classes)["log_loss"]
        for one in (result, trained)
    )
    assert found < 1.5 * wanted


@pytest.mark.parametrize(("kind", "arch"), [("table", MLP), ("image", CNN), ("regress", MLP)])
def test_the_graph_of_the_average_answers_as_the_network_does(make, judge, kind, arch):
    model, data, task = make(kind, arch)
    result = last(Mcmc(**QUICK, members=3)(model, data, task, judge, 0)).result
    raw = forward(result.body.value, rows(result, data.valid, task).features)
    found = answers(result, data.valid, task)
    wanted = raw.exp().numpy() if result.signature.classes else raw.reshape(-1).numpy()
    output = "probabilities" if result.signature.classes else "value"
    assert np.abs(found[output] - wanted).max() <= 1e-5 * max(1.0, np.abs(wanted).max())


def test_a_mixture_says_the_mean_of_probabilities_and_of_values():
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    x = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    shares = (first(x).softmax(1) + second(x).softmax(1)) / 2
    assert torch.allclose(Mixture([first, second], True)(x).exp(), shares, atol=1e-6)
    assert torch.allclose(Mixture([first, second], False)(x), (first(x) + second(x)) / 2, atol=1e-6)
    assert mixed([first], True) is first


def test_the_mean_of_numbers_comes_out_in_the_unit_of_the_target(make, judge):
    model, data, task = make("regress", MLP)
    final = last(Mcmc(epochs=20)(model, data, task, judge, 0))
    value = answers(final.result, data.valid, task)["value"]
    assert score(["r2"], {"value": value}, data.valid.target, ())["r2"] == pytest.approx(final.values["valid_r2"])
    assert final.values["valid_r2"] > 0.9


def test_every_norm_of_a_member_is_at_home_with_its_own_weights(make, judge):
    model, data, task = make("image", CNN)
    result = last(Mcmc(**QUICK, members=3)(model, data, task, judge, 0)).result
    features = rows(result, data.train, task).features
    for member in result.body.value.members:
        seen = member[0](features)
        assert torch.allclose(member[1].running_mean, seen.mean((0, 2, 3)), atol=1e-4)
        assert torch.allclose(member[1].running_var, seen.var((0, 2, 3)), rtol=1e-3)


def test_progress_counts_rows_and_tells_of_convergence(make, judge):
    model, data, task = make("table", MLP)
    steps = list(Mcmc(epochs=20, chains=3)(model, data, task, judge, 0))
    assert [step.values["rows"] for step in steps[:3]] == [3.0 * 120 * n for n in (1, 2, 3)]
    assert all(math.isfinite(value) for step in steps for value in step.values.values())
    assert {"train_loss", "learning_rate", "log_posterior", "valid_loss", "valid_accuracy"} <= steps[0].values.keys()
    assert "r_hat" not in steps[0].values
    assert {"ess", "r_hat", "members"} <= steps[-1].values.keys()
    assert "3 chains of" in steps[-1].note
    assert "R-hat" in steps[-1].note
    assert [step.result is None for step in steps] == [True] * 20 + [False]


def test_long_chains_of_a_simple_model_agree_and_short_ones_of_a_large_one_do_not(make, judge):
    model, data, task = make("table", {"method": "mlp", "depth": 0})
    final = last(Mcmc(epochs=80, cycles=0, temperature=1.0, prior=0.1)(model, data, task, judge, 0))
    assert final.values["r_hat"] < 1.05
    assert final.note.endswith("the chains agree")
    model, data, task = make("table", {"method": "mlp", "width": 32})
    final = last(Mcmc(epochs=12, temperature=0.01)(model, data, task, judge, 0))
    assert final.values["r_hat"] > 1.05
    assert final.note.endswith("the chains have not converged: more epochs")


def test_burn_in_lowers_the_step_size_until_batches_add_little_noise(make, judge):
    model, data, task = make("table", MLP)
    sizes = {}
    for share in (0.0, 0.01):
        *steps, _ = Mcmc(epochs=20, batch_noise=share)(model, data, task, judge, 0)
        sizes[share] = [step.values["learning_rate"] for step in steps]
    assert sizes[0.0][:6] == [1.0] * 6
    assert sizes[0.01][:2] == [1.0, 1.0]
    assert 1.0 > sizes[0.01][2] > sizes[0.01][5]
    assert [a / b for a, b in zip(sizes[0.01][6:20], sizes[0.0][6:20], strict=True)] == pytest.approx(
        [sizes[0.01][6] / sizes[0.0][6]] * 14
    )


def test_a_step_that_may_be_refused_adapts_to_the_share_that_is_best_taken(make, judge):
    model, data, task = make("table", {"method": "mlp", "depth": 0})
    steps = list(Mcmc(epochs=120, metropolis=True, burn_in=0.5, thin=5)(model, data, task, judge, 0))
    told = [step.values["acceptance"] for step in steps[60:-1]]
    assert np.mean(told) == pytest.approx(0.574, abs=0.2)
    assert len({step.values["learning_rate"] for step in steps[61:-1]}) == 1
    assert steps[0].values["rows"] == 2 * 2 * 120


def test_colder_draws_stay_nearer_to_each_other(make, judge, tmp_path):
    model, data, task = make("table", {"method": "mlp", "depth": 0})
    spreads = []
    for temperature in (1.0, 0.01):
        store = tmp_path / str(temperature)
        trainer = Mcmc(epochs=30, cycles=0, temperature=temperature, learning_rate=0.3, store=str(store))
        list(trainer(model, data, task, judge, 0))
        spreads.append(float(read(next(store.iterdir())).joined("draw")["weights"].std(1).mean()))
    assert spreads[1] < spreads[0] / 3


def test_the_average_is_distilled_into_one_network_of_the_same_arch(make, judge):
    model, data, task = make("table", MLP)
    steps = list(Mcmc(**QUICK, distill=20)(model, data, task, judge, 0))
    result, average = steps[-1].result, last(Mcmc(**QUICK)(model, data, task, judge, 0)).result
    assert weights(result).keys() == weights(model).keys()
    assert len(export(result, task)) < len(export(average, task)) / 3
    told, wanted = (answers(m, data.train, task)["probabilities"] for m in (result, average))
    assert np.abs(told - wanted).mean() < 0.05
    assert [step.step for step in steps] == [*range(1, 27), 26]
    assert steps[-1].values["rows"] == 6 * 2 * 120 + 20 * 120
    assert "one network has learned their mean" in steps[-1].note


def test_a_trained_network_goes_on_from_its_weights(make, judge):
    model, data, task = make("regress", MLP)
    trained = last(Adam(epochs=30)(model, data, task, judge, 0))
    first = next(Mcmc(epochs=50, learning_rate=1e-6)(trained.result, data, task, judge, 0))
    assert first.values["valid_loss"] == pytest.approx(trained.values["valid_loss"], rel=0.1)
    again = last(Mcmc(**QUICK, members=2)(trained.result, data, task, judge, 0))
    further = next(Adam(epochs=50, learning_rate=1e-6)(again.result, data, task, judge, 0))
    assert further.values["valid_loss"] == pytest.approx(again.values["valid_loss"], rel=0.1)


def test_without_validation_rows_the_same_chains_are_drawn(make, judge):
    model, data, task = make("table", MLP)
    bare = Splits(data.train, data.valid.take(np.arange(0)), data.test)
    final = last(Mcmc(**QUICK)(model, bare, task, judge, 0))
    assert not [name for name in final.values if name.startswith("valid")]
    assert same(weights(final.result), weights(last(Mcmc(**QUICK)(model, data, task, judge, 0)).result))


def test_a_run_that_has_no_time_still_gives_a_model(make, judge):
    model, data, task = make("table", MLP)
    final = last(Mcmc(epochs=1000, seconds=0.05)(model, data, task, judge, 0))
    assert final.step < 1000
    assert answers(final.result, data.valid, task)["label"].shape == (40,)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(make, judge):
    model, data, task = make("table", {**MLP, "dropout": 0.2})
    before, state = weights(model), torch.random.get_rng_state()
    first, second, other = (last(Mcmc(**QUICK)(model, data, task, judge, seed)).result for seed in (3, 3, 4))
    assert same(weights(first), weights(second))
    assert not same(weights(first), weights(other))
    assert same(before, weights(model))
    assert torch.equal(state, torch.random.get_rng_state())


KILLED = """
import importlib.util, os, signal, sys, torch
torch.set_num_threads(1)
loaded = importlib.util.spec_from_file_location("small", sys.argv[1])
small = importlib.util.module_from_spec(loaded)
loaded.loader.exec_module(small)
from modelmill.train.trainers.mcmc import Mcmc
model, data, task = small.build("regress", {"method": "mlp", "width": 8, "depth": 1})
trainer = Mcmc(epochs=12, cycles=2, chunk=3, burn_in=0.2, store=sys.argv[2])
for progress in trainer(model, data, task, lambda model: 0.0, 7):
    if progress.step == 8:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_whose_process_was_killed_goes_on_to_the_same_chain(make, judge, tmp_path):
    small = Path(__file__).parents[1] / "conftest.py"
    half, full = tmp_path / "half", tmp_path / "full"
    command = [sys.executable, "-c", KILLED, small, half]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    model, data, task = make("regress", MLP)
    settings = {"epochs": 12, "cycles": 2, "burn_in": 0.2, "chunk": 3}
    whole = list(Mcmc(**settings, store=str(full))(model, data, task, judge, 7))
    resumed = list(Mcmc(**settings, store=str(half))(model, data, task, judge, 7))
    assert [step.step for step in resumed] == [7, 8, 9, 10, 11, 12, 12]
    assert [dict(step.values) for step in resumed] == [dict(step.values) for step in whole[6:]]
    files = [{path.name: path.read_bytes() for path in store.glob("*/*")} for store in (half, full)]
    assert len(files[0]) == 5
    assert files[0] == files[1]
    assert same(weights(whole[-1].result), weights(resumed[-1].result))


@pytest.fixture
def stored(make, judge, tmp_path):
    """A call that keeps its chain in a folder, what it gave, and the folder."""
    model, data, task = make("table", MLP)

    def call(**settings):
        return list(Mcmc(**QUICK, **settings, store=str(tmp_path))(model, data, task, judge, 0))

    steps = call()
    return call, steps, next(tmp_path.iterdir())


def test_a_stored_chain_holds_draws_traces_and_a_summary(stored):
    _, steps, folder = stored
    assert sorted(path.name for path in folder.iterdir()) == [f"00000{n}.safetensors" for n in range(3)] + [
        "summary.json"
    ]
    chain = read(folder)
    draws, trace = chain.joined("draw"), chain.joined("trace")
    drawn = draws["log_posterior"].shape[1]
    assert draws["weights"].shape == (
        2,
        drawn,
        sum(p.numel() for p in steps[-1].result.body.value.members[0].parameters()),
    )
    assert draws["random"][1, -1].tolist() == [0, 1, 6]
    assert trace["step_size"].shape == trace["moved"].shape == (2, 6)
    assert float(draws["log_posterior"][:, -1].mean()) == steps[-1].values["log_posterior"]
    told = json.loads((folder / "summary.json").read_text())
    assert told["marginal"]["log_posterior"]["mean"] == pytest.approx(float(draws["log_posterior"].mean()))
    assert told["transition"]["moved"]["mean"] == pytest.approx(float(trace["moved"].mean()))
    assert told["weights"]["0.weight"]["deviation"] > 0


def test_a_whole_chain_is_not_drawn_again_and_serves_more_members(stored):
    call, steps, _ = stored
    again = call()
    assert len(again) == 1
    assert same(weights(again[-1].result), weights(steps[-1].result))
    assert len(call(members=3)[-1].result.body.value.members) == 3


def test_members_end_equal_parts_of_all_chains():
    chain = Chain(None, "")
    for first in (0, 2):
        draws = [[[10.0 * number + first + draw] for draw in range(2)] for number in range(2)]
        chain.append(Chunk({"draw/weights": torch.tensor(draws)}, {}))
    chosen = {count: [float(weights) for weights in spread(chain, count)] for count in (1, 2, 4, 9)}
    assert chosen == {1: [13], 2: [3, 13], 4: [1, 3, 11, 13], 9: [0, 1, 2, 3, 10, 11, 12, 13]}


@pytest.mark.parametrize("harm", ["cut", "changed", "empty"])
def test_a_last_chunk_that_is_not_whole_is_drawn_again(stored, harm):
    call, steps, folder = stored
    path = folder / "000002.safetensors"
    content = path.read_bytes()
    path.write_bytes({"cut": content[:-100], "changed": content[:-1] + bytes([content[-1] ^ 1]), "empty": b""}[harm])
    (folder / ".000003.safetensors.abcd.part").write_bytes(b"half")
    again = call()
    assert [step.step for step in again] == [5, 6, 6]
    assert same(weights(again[-1].result), weights(steps[-1].result))
    assert not list(folder.glob(".*"))


def test_a_damaged_chunk_before_others_is_refused(stored):
    call, _, folder = stored
    path = folder / "000001.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(SourceError, match=r"000001.safetensors: the chunk is damaged: .* Delete it and"):
        call()


def test_a_chunk_of_another_place_in_the_chain_is_refused(stored):
    call, _, folder = stored
    (folder / "000001.safetensors").write_bytes((folder / "000000.safetensors").read_bytes())
    with pytest.raises(SourceError, match="its digest is not that of its content after the chunk before"):
        call()


def test_other_settings_are_another_chain_in_the_same_store(stored, make, judge):
    call, _, folder = stored
    call(temperature=0.5)
    assert len(list(folder.parent.iterdir())) == 2
    model, data, task = make("table", MLP)
    with pytest.raises(WorkError, match="belongs to a run with other settings, data or seed"):
        list(Mcmc(**QUICK)(model, data, task, judge, 1, folder))


def test_another_network_with_the_same_weights_is_another_chain(make, judge, tmp_path):
    for activation in ("relu", "tanh"):
        model, data, task = make("table", {**MLP, "activation": activation})
        list(Mcmc(**QUICK, store=str(tmp_path))(model, data, task, judge, 0))
    assert len(list(tmp_path.iterdir())) == 2


def test_what_was_distilled_from_other_draws_is_not_taken_for_these(stored):
    call, _, folder = stored
    few, many = (call(members=count, distill=4)[-1].result for count in (1, 4))
    assert not same(weights(few), weights(many))
    assert same(weights(many), weights(call(members=4, distill=4)[-1].result))
    assert len(list(folder.glob("distilled-*"))) == 2


def test_a_network_is_made_again_of_the_names_of_its_weights(make, judge):
    for kind in ("table", "regress"):
        model, data, task = make(kind, MLP)
        result = last(Mcmc(**QUICK, members=3)(model, data, task, judge, 0)).result
        again = like(weights(result), lambda: copy.deepcopy(model.body.value), kind == "table")  # noqa: B023
        again.load_state_dict(weights(result))
        features = rows(result, data.valid, task).features
        assert torch.equal(forward(again, features), forward(result.body.value, features))
        assert like(weights(result), lambda: again, kind == "table") is again  # noqa: B023


def test_a_published_average_serves_and_is_gone_on_from(home):
    def made(name, arch, train):
        goal = {"maximize": "accuracy", "budget": "1 trials"}
        data = {"method": "builtin", "name": "wine"}
        spec = {"data": data, "arch": arch, "train": train, "compress": [], "goal": goal, "name": name}
        return list(build({**spec, "search": {"folds": 1}}, Home(home)))[-1]

    chains = {"method": "mcmc", "epochs": 8, "members": 3}
    first = made("average", {"method": "mlp", "width": 8}, chains)
    assert first.metrics["accuracy"].value > 0.8
    second = made("further", {"method": "trained", "model": "average"}, {"method": "adam", "epochs": 1})
    assert second.metrics["log_loss"].value < 1.5 * first.metrics["log_loss"].value
    assert second.costs["size_bytes"] > 2 * 8 * 13 * 4


def test_a_folder_without_a_chain_is_refused(tmp_path):
    with pytest.raises(SourceError, match="there is no chain in this folder"):
        read(tmp_path)


def test_settings_out_of_bounds_are_refused():
    with pytest.raises(OutOfBounds, match=r"mcmc\.temperature"):
        Mcmc(temperature=0)


def test_rows_weigh_what_the_data_say(make, judge):
    model, data, task = make("table", MLP)
    target = data.train.target
    heavy = np.where(target == "big", 50.0, 0.02)
    weighed = Splits(dataclasses.replace(data.train, weights=heavy), data.valid, data.test, data.digest)
    result = last(Mcmc(**QUICK)(model, weighed, task, judge, 0)).result
    assert (answers(result, data.valid, task)["label"] == "big").mean() > 0.9
