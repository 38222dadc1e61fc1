"""Searches end to end, with samplers and generators that need the rest of the mill to play along."""

import pytest

from modelmill.errors import SpecError
from modelmill.mill import build
from modelmill.store.home import Home
from modelmill.trial import Trial


def wine(home, **tables):
    spec = {"data": {"method": "builtin", "name": "wine"}, "name": "wine", "compress": [], **tables}
    spec["goal"] = {"maximize": "accuracy", "budget": tables.get("budget", "6 trials")}
    spec.pop("budget", None)
    spec["search"] = {"folds": 1, **spec.get("search", {})}
    return list(build(spec, Home(home)))


def ended(steps):
    return {step.number: step for step in steps if isinstance(step, Trial) and step.state != "running"}


def test_gradients_come_with_every_trial_where_the_sampler_walks_along_them(home):
    train = {
        "method": "adam",
        "epochs": 5,
        "learning_rate": {"low": 1e-4, "high": 0.1, "log": True},
        "weight_decay": {"low": 1e-4, "high": 0.5, "log": True},
    }
    steps = wine(home, arch={"method": "mlp", "width": 8}, train=train, search={"sampler": {"method": "gradient"}})
    trials = ended(steps)
    assert all({"train.adam.learning_rate", "train.adam.weight_decay"} <= set(one.gradients) for one in trials.values())
    followed = trials[1]
    assert followed.memo["from"] == 0
    way = followed.settings["train.adam.learning_rate"] - trials[0].settings["train.adam.learning_rate"]
    assert way * trials[0].gradients["train.adam.learning_rate"] < 0


def test_what_cannot_be_differentiated_is_refused_before_the_first_trial(home):
    arch = {"method": "mlp", "width": {"low": 4, "high": 8}}
    with pytest.raises(SpecError, match=r"arch\.mlp\.width.*gradient"):
        wine(home, arch=arch, train={"method": "adam", "epochs": 2}, search={"sampler": {"method": "gradient"}})


@pytest.mark.parametrize("generator", ["wirings", "controller", "graphs"])
def test_generated_architectures_are_searched_and_published(home, generator):
    from modelmill.arch.cell import space

    arch = space("table", nodes=3, operations=["relu", "tanh", "identity"], settings={"width": 8, "stages": 1})
    train = {"method": "adam", "epochs": 4, "learning_rate": {"low": 1e-3, "high": 0.1, "log": True}}
    steps = wine(home, arch=arch, train=train, search={"generator": {"method": generator}}, budget="5 trials")
    trials = ended(steps)
    assert [one.state for one in trials.values()] == ["done"] * 5
    assert all("generator" in one.memo for one in list(trials.values())[1:])
    assert steps[-1].metrics["accuracy"].value > 0.5
