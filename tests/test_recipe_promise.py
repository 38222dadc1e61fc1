"""The winner made anew: slower steps are left out, unless a limit needs them; models that a run starts from."""

import contextlib
import dataclasses

import msgspec
import pytest

from modelmill.api import registry
from modelmill.ask import request
from modelmill.errors import ModelError
from modelmill.execute.message import Message
from modelmill.graph.export import export
from modelmill.recipe import timing
from modelmill.recipe.bases import model_of, named, others
from modelmill.recipe.job import Job
from modelmill.recipe.look import look
from modelmill.recipe.make import remade
from modelmill.recipe.shelf import Shelf
from modelmill.recipe.timing import Stopwatch
from modelmill.recipe.worker import worker
from modelmill.spec import read
from modelmill.store.blobs import Blobs
from modelmill.task.classify import Classify
from modelmill.trial import Trial

SPEC = {
    "data": {"method": "builtin", "name": "iris"},
    "arch": {"method": "mlp", "width": 64, "depth": 1},
    "train": {"method": "adam", "epochs": 2},
    "compress": [{"method": "quantize.dynamic"}],
    "goal": {"maximize": "accuracy"},
    "search": {"folds": 1},
}


class Here:
    """Runs jobs in this process, one after the other."""

    def __init__(self, job):
        self.run = worker(job)
        self.said = []

    def submit(self, name, payload):
        *_, last = self.run(payload)
        self.said.append(Message(name, "result", last))

    def messages(self):
        said, self.said = self.said, []
        return said

    def paused(self):
        return contextlib.nullcontext()


@pytest.fixture
def made(tmp_path, monkeypatch):
    def of(ratio, **limit):
        # what a measurement says is given, so that nothing here depends on how busy the machine is
        monkeypatch.setattr(timing, "compare", lambda graphs, rows, plan: ratio)
        blobs = Blobs(tmp_path / "blobs")
        seen = look(read({**SPEC, "goal": {**SPEC["goal"], "limit": limit}}))
        job = dataclasses.replace(seen.job, shelf=Shelf(tmp_path / "trained"), blobs=blobs)
        trial = Trial(0, "done", {}, artifact=blobs.put(b"as it was searched"))
        watch = Stopwatch(job.splits.valid, blobs, tmp_path / f"timings-{ratio[0]}.json")
        return remade(job, Here(job), blobs, trial, None, watch)

    return of


def test_a_step_of_a_build_that_is_slower_is_left_out_and_the_training_is_not_repeated(made):
    fast, slow = made((0.9, 0.8, 0.95)), made((1.3, 1.2, 1.4))
    assert [step.kept for step in fast.steps] == [True]
    assert [(step.kept, step.latency_ratio) for step in slow.steps] == [(False, (1.3, 1.2, 1.4))]
    assert "1.30 times as long" in slow.steps[0].why
    assert len(slow.artifact) > len(fast.artifact)
    assert slow.metrics == slow.plain_metrics


def test_a_slower_step_is_taken_where_a_limit_is_not_kept_without_it(made):
    size_kb = len(made((0.9, 0.8, 0.95)).artifact) / 1000
    found = made((1.3, 1.2, 1.4), size_kb=size_kb)
    assert found.keeps
    assert [(step.kept, step.insisted) for step in found.steps] == [(True, True)]


def test_a_version_keeps_what_was_searched_and_its_preparation(with_network):
    shelf = registry(with_network)
    version = shelf.find("iris@1")
    served = shelf.file(version, "model.onnx")
    assert export(model_of(version, shelf), Classify()) == served
    searched = model_of(version, shelf, "searched.")
    assert searched.body.kind == "network"
    assert export(searched, Classify()) == shelf.file(version, "searched.model.onnx") != served


def test_a_second_teacher_is_pinned_to_its_number_and_brought(with_network):
    shelf = registry(with_network)
    spec = named(asking("iris"), shelf)
    assert spec.compress == ({"method": "distill.merge", "model": "iris@1"},)
    brought = others(spec, shelf)
    assert {name: model.body.kind for name, model in brought.items()} == {"iris@1": "network"}
    assert isinstance(look(spec, others=brought).job, Job)


def test_a_second_teacher_of_other_classes_is_refused_before_any_work(with_network):
    teacher = others(named(asking("iris"), registry(with_network)), registry(with_network))["iris@1"]
    spec = msgspec.structs.replace(request("wine"), compress=asking("iris").compress)
    with pytest.raises(ModelError, match="Both must know the same classes"):
        look(spec, others={"iris": teacher})


def asking(name):
    return msgspec.structs.replace(request(name), compress=({"method": "distill.merge", "model": name},))


@pytest.fixture(scope="module")
def with_network(tmp_path_factory):
    """A home with `iris@1`, a network that was not compressed."""
    from modelmill.api import home
    from modelmill.mill import build

    place = home(tmp_path_factory.mktemp("network") / "home")
    goal = {"maximize": "accuracy", "budget": "1 trials"}
    spec = read({**SPEC, "compress": [], "goal": goal, "search": {"folds": 2, "sampler": {"method": "random"}}})
    list(build(spec, place))
    return place.path


@pytest.mark.parametrize(("quality", "floor"), [(-0.05, -0.06), (0.9, 0.89)])
def test_the_floor_of_a_quality_below_zero_is_below_it(quality, floor):
    from types import SimpleNamespace

    from modelmill.recipe.parent import held
    from modelmill.spec import Goal

    job = SimpleNamespace(base=SimpleNamespace(quality=quality), task=SimpleNamespace(metrics=("r2",)))
    assert held(Goal(maximize=["r2"], allow_loss=0.01), job).limit["r2"] == pytest.approx(floor)
