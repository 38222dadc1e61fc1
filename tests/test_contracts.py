"""What every method of a family promises, over all methods found in its folder; a new file is tested by being there."""

import copy

import msgspec
import numpy as np
import pytest

from modelmill.contracts import Column
from modelmill.errors import SpecError
from modelmill.fragment import Writer
from modelmill.graph.digest import digest
from modelmill.graph.export import export
from modelmill.method import catalogue, decode, find, names
from modelmill.model import Body, Model, Part
from modelmill.recipe.look import look
from modelmill.runtime.features import digest as fragment_digest
from modelmill.spec import COSTS, read
from modelmill.trial import Trial


@pytest.fixture(scope="module", params=["wine", "diabetes", "digits"])
def job(request):
    """A job of each kind: classes from a table, values from a table, classes from images."""
    return look(read({"data": {"method": "builtin", "name": request.param}})).job


def untrained(job, name, seed=0):
    from modelmill.prepare.chain import prepare
    from modelmill.recipe.grow import features_kind

    arch = decode("arch", small(name))
    kind = features_kind(job.splits.train)
    if job.signature.task not in arch.tasks or not arch.kinds & {kind, "table"}:
        pytest.skip(f"{name} does not take {kind} features for {job.signature.task}")
    kind = kind if kind in arch.kinds else "table"
    prepared = prepare([decode("prepare", step) for step in job.spec.prepare], job.splits.train, kind)
    body = Body(arch.body, arch(job.signature, prepared.shape, seed), small(name))
    return Model((Part(body, prepared.fragment),), job.signature)


def small(name):
    """The table of an arch with few members, so that a test is quick."""
    few = {"forest": {"trees": 5}, "boosting": {"iterations": 5}, "lightgbm": {"iterations": 5}, "mlp": {"width": 8}}
    few |= {"darknet53": {"width": 4, "blocks": [1]}, "darknet53_light": {"width": 4, "blocks": [1, 2]}}
    few |= {"transformer": {"width": 8, "depth": 1}, "depthwise": {"width": 4, "blocks": 1}}
    return {"method": name, **few.get(name, {}), **({"width": 4} if name == "cnn" else {})}


def trained(job, model, seed=0):
    trainer = next(name for name in names("train") if model.body.kind in find("train", name).takes)
    settings = {"epochs": 2} if model.body.kind == "network" else {}
    return last(decode("train", {"method": trainer, **settings})(model, job.splits, job.task, lambda m: 0.0, seed))


def last(steps):
    result = None
    for progress in steps:
        result = progress.result or result
    return result


def state(model):
    if model.body.kind == "network":
        return {name: tensor.clone() for name, tensor in model.body.value.state_dict().items()}
    return copy.deepcopy(vars(model.body.value))


def same_state(first, second):
    return first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", [e.name for e in catalogue("arch") if e.contract == "Arch"])
def test_a_body_is_made_of_its_seed_and_stays_what_its_arch_says(job, name):
    if name == "lightgbm":
        pytest.importorskip("lightgbm", reason="LightGBM is an extra, and is not installed")
    model = untrained(job, name, seed=3)
    again = untrained(job, name, seed=3)
    assert model.body.kind == find("arch", name).body
    if model.body.kind == "network":
        assert same_state(state(model), state(again))
        assert not same_state(state(model), state(untrained(job, name, seed=4)))
        assert digest(export(model, job.task)) == digest(export(again, job.task))
    else:
        assert repr(model.body.value) == repr(again.body.value)


@pytest.mark.parametrize("name", [e.name for e in catalogue("arch") if e.contract == "Arch"])
def test_a_trained_body_becomes_the_same_graph_from_the_same_seed(job, name):
    if name == "lightgbm":
        pytest.importorskip("lightgbm", reason="LightGBM is an extra, and is not installed")
    first, second = (export(trained(job, untrained(job, name)), job.task) for _ in range(2))
    assert digest(first) == digest(second)


@pytest.mark.parametrize("name", names("train"))
def test_a_trainer_leaves_its_input_as_found_and_keeps_the_signature(job, name):
    cls = find("train", name)
    model = untrained(job, "mlp" if "network" in cls.takes else "tree")
    before = state(model)
    settings = {"epochs": 2} if "network" in cls.takes else {}
    trainer = decode("train", {"method": name, **settings})
    results = [last(trainer(model, job.splits, job.task, lambda m: 0.0, 7)) for _ in range(2)]
    assert same_state(state(model), before)
    assert results[0].signature == model.signature
    assert results[0].body.kind == model.body.kind
    assert len(results[0].history) > len(model.history)
    assert digest(export(results[0], job.task)) == digest(export(results[1], job.task))


LIVELY = {
    "geometric": {"rotate": 20, "shift": 1, "flip": "horizontal"},
    "photometric": {"contrast": 0.5, "noise": 0.2, "blur": 1.0},
    "colour": {"brightness": 0.5},
}
"""Settings with which an augmentation changes something: at their defaults most do nothing."""


@pytest.mark.parametrize("name", [entry.name for entry in catalogue("augment")])
def test_an_augmentation_is_a_function_of_a_batch_and_a_generator_and_keeps_the_shape(job, name):
    from modelmill.train.rows import rows

    step = decode("augment", {"method": name, **LIVELY.get(name, {})})
    batch = rows(untrained(job, "mlp"), job.splits.train, job.task).features[:32]
    if ("image" if batch.ndim == 4 else "table") not in step.kinds:
        pytest.skip(f"{name} takes {' and '.join(step.kinds)} features")
    before = batch.clone()
    first, second, other = (step(batch, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert batch.equal(before)
    assert first.batch.shape == batch.shape
    assert first.batch.dtype == batch.dtype
    assert first.batch.isfinite().all()
    assert first.batch.equal(second.batch)
    assert not first.batch.equal(other.batch)
    assert not first.batch.equal(batch)
    assert 0 <= first.share <= 1
    assert first.order is None or sorted(first.order.tolist()) == list(range(32))


COLUMNS = {
    "number": np.array([[1.0, np.nan], [2.0, 5.0], [4.0, 6.0]], np.float32),
    "category": np.array(["a", "", "b"], object),
    "date": np.array([0, 86_400_000, -1], np.int64),
    "image": np.arange(12, dtype=np.uint8).reshape(3, 2, 2),
}


@pytest.mark.parametrize("name", names("prepare"))
def test_a_preparation_is_a_function_of_its_columns_and_leaves_them_as_found(name):
    columns = [
        Column(kind, kind, tuple(f"{kind}{i}" for i in range(values.shape[1] if kind == "number" else 1)), values)
        for kind, values in COLUMNS.items()
        if name != "flatten" or kind != "image"
    ]
    kept = {column.name: column.values.copy() for column in columns}
    digests = []
    for _ in range(2):
        writer = Writer()
        given = list(decode("prepare", {"method": name})(columns, writer))
        assert given
        digests.append((fragment_digest(writer.fragment()), [(c.name, c.kind, c.labels) for c in given]))
    assert digests[0] == digests[1]
    for column in columns:
        assert np.array_equal(column.values, kept[column.name], equal_nan=column.kind == "number")


@pytest.mark.parametrize("entry", [e for e in catalogue("evaluate") if e.contract == "Cost"], ids=lambda e: e.name)
def test_a_cost_names_what_it_gives_with_its_unit(entry):
    cls = find("evaluate", entry.name)
    known = {*COSTS, "size_bytes", "stored_bytes", "latency_p95_ms", "latency_b32_ms"}
    assert set(cls.gives) <= known, cls.gives
    units = ("millisecond", "second", "byte", "joule", "multiply-add")
    assert any(unit in entry.doc.lower() for unit in (*units, "rows a second")), entry.doc


@pytest.mark.parametrize("name", names("metrics"))
def test_a_metric_says_which_way_is_better_and_for_which_tasks(name):
    cls = find("metrics", name)
    assert cls.better in ("higher", "lower")
    assert cls.tasks
    assert cls.tasks <= set(names("task"))


@pytest.mark.parametrize("name", names("sampler"))
def test_a_sampler_picks_the_same_from_the_same_seed_and_history(name):
    from modelmill.search.suggest import Suggester
    from modelmill.space import Dimension
    from modelmill.spec import Goal

    cls = find("sampler", name)

    def walk(choose):
        choose(Dimension("x", low=0.0, high=1.0, differentiable=True))
        if not cls.gradients:
            choose(Dimension("kind", options=("a", "b")))

    goal = Goal(maximize=("accuracy",))
    runs = []
    for _ in range(2):
        suggester = Suggester(walk, goal, decode("sampler", {"method": name}), 5)
        picks = []
        for number in range(4):
            suggestion = suggester.pick(number)
            assert suggestion is not None
            settings = suggestion.settings
            picks.append(settings)
            suggester.learn(Trial(number, "done", settings, metrics={"accuracy": settings["x"]}))
        runs.append(picks)
    assert runs[0] == runs[1]
    assert len({msgspec.json.encode(settings) for settings in runs[0]}) == 4


@pytest.mark.parametrize("name", names("task"))
def test_a_task_declares_its_outputs_by_the_names_of_the_contract(name):
    task = decode("task", {"method": name})
    if not task.outputs:
        with pytest.raises(SpecError, match="Say what the outputs are"):
            task.declare(())
        return
    fields = task.declare(("a", "b") if name == "classify" else ())
    assert tuple(field.name for field in fields) == task.outputs
    assert msgspec.json.decode(msgspec.json.encode(fields))[0]["shape"][0] == -1
