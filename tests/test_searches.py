"""Searches end to end, with samplers and generators that need the rest of the mill to play along."""

import pytest

from modelmill.errors import SpecError, UnknownName
from modelmill.mill import build
from modelmill.search.ledger.studies import studies
from modelmill.store.home import Home
from modelmill.trial import Progress, Trial


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


def test_a_spec_for_derivatives_gets_no_steps_that_it_would_have_to_turn_off():
    from modelmill.recipe.look import look
    from modelmill.spec import read

    def steps(sampler):
        asked = {
            "data": {"method": "builtin", "name": "wine"},
            "arch": {"method": "mlp"},
            "search": {"sampler": sampler},
        }
        return look(read(asked)).job.spec.compress

    assert steps({"method": "gradient"}) == ()
    assert steps({"method": "tpe"})
    with pytest.raises(UnknownName, match=r"search\.sampler.*gradiant"):
        steps({"method": "gradiant"})


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


def test_a_grid_begins_with_its_first_cell_and_tries_equal_graphs_once(home):
    arch = {
        "method": "cell",
        "kind": "table",
        "operations": [{"any": ["relu", "identity"]}, {"any": ["relu", "identity"]}],
        "edges": [[1], [{"any": [0, 1]}, 1], [0, 0, 1]],
    }
    train = {"method": "adam", "epochs": 1, "learning_rate": {"low": 0.001, "high": 0.01}}
    search = {"sampler": {"method": "grid", "points": 2}}
    trials = ended(wine(home, arch=arch, train=train, search=search, budget="40 trials"))
    rates = {one.settings["train.adam.learning_rate"] for one in trials.values()}
    assert rates == {0.001, 0.01}
    assert 2 < len(trials) < 16
    assert not any("random" in note for one in trials.values() for note in one.notes)


def test_a_search_goes_on_from_another_folder_and_after_its_data_have_moved(home, tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    rows = "\n".join(f"{i % 7},{i % 5},{'ab'[i % 2]}" for i in range(60))
    (first / "rows.csv").write_text("x,y,label\n" + rows)
    monkeypatch.chdir(first)
    spec = {
        "data": {"method": "csv", "path": "rows.csv", "target": "label"},
        "name": "rows",
        "goal": {"maximize": "accuracy", "budget": "3 trials"},
        "arch": {"method": "linear", "strength": {"low": 0.1, "high": 10.0}},
    }
    steps = build(spec, Home(home))
    next(step for step in steps if isinstance(step, Trial) and step.state == "done")
    steps.close()
    monkeypatch.chdir("/")
    kept = studies(Home(home).database)[0].spec
    assert kept["data"]["path"] == str(first / "rows.csv")
    first.rename(second)
    moved = {**spec, "data": {**spec["data"], "path": str(second / "rows.csv")}}
    notes = [step.note for step in build(moved, Home(home)) if isinstance(step, Progress)]
    assert any("unfinished run" in note for note in notes)


def test_what_a_trainer_says_of_its_training_stands_with_the_trial_and_in_the_report(home):
    train = {"method": "mcmc", "epochs": 16, "cycles": 2, "chains": 2}
    *steps, report = wine(home, arch={"method": "mlp", "width": 4, "depth": 1}, train=train, budget="1 trials")
    (only,) = ended(steps).values()
    assert any("R-hat" in note for note in only.notes), only.notes
    assert any("R-hat" in note for note in report.details["notes"])
