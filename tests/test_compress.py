"""Compressing a published version, end to end: what is kept and dropped, published, reused, refused and survived."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from modelmill.ask import compression
from modelmill.compress.quantize.static import Static
from modelmill.recipe.machines import machines
from modelmill.recipe.parent import SEARCHED_GRAPH, look
from modelmill.recipe.timing import Stopwatch
from modelmill.registry.registry import Registry
from modelmill.report import Report
from modelmill.store.blobs import Blobs
from modelmill.store.home import Home
from modelmill.trial import Outcome

MODELMILL = [sys.executable, "-m", "modelmill.cli"]

SPEC = """
name = "digits"
compress = []
data = { method = "builtin", name = "digits" }
goal = { maximize = "accuracy", budget = "1 trials" }
arch = { method = "mlp", width = 128, depth = 2 }
train = { method = "adam", epochs = 8 }
search = { sampler = { method = "random" } }
"""

RECIPE = """
[[compress]]
method = "distill.larger"
epochs = 1

[[compress]]
method = "prune.magnitude"
ratio = 0.5
epochs = 8

[[compress]]
method = "quantize.codebook"
optional = true
insist = true
bits = 4
epochs = 1
"""


@pytest.fixture(scope="session")
def with_digits(tmp_path_factory):
    """A home with `digits@1`, a small network as it was trained."""
    folder = tmp_path_factory.mktemp("digits")
    (folder / "digits.toml").write_text(SPEC)
    command = [*MODELMILL, "build", str(folder / "digits.toml"), "--quiet"]
    environment = {**os.environ, "MODELMILL_HOME": str(folder / "home")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "home"


@pytest.fixture
def digits(with_digits, home):
    """That home, as a copy of this test's own."""
    shutil.copytree(with_digits, home)
    return home


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def versions(run):
    """The numbers of what is published."""
    _, out, _ = run("models", "list", "--json")
    return [version["number"] for version in json.loads(out)]


def compressed(run, *flags):
    code, out, err = run("compress", "digits@1", "--workers", "1", "--json", *flags)
    assert code == 0, err
    return json.loads(out), err


def test_a_child_names_its_parent_its_steps_and_what_was_dropped_and_a_second_run_trains_nothing(run, digits, recipe):
    flags = ("--recipe", recipe, "--budget", "2 trials")
    report, _ = compressed(run, *flags)
    assert (report["name"], report["version"], report["lineage"]["parent"]) == ("digits", 2, "digits@1")
    assert report["costs"]["size_bytes"] < report["baseline"]["costs"]["size_bytes"]
    assert report["details"]["base"] == "digits@1"
    larger, *others = report["details"]["steps"]
    assert (larger["step"], larger["kept"]) == ("distill.larger", False)
    assert "it makes the file larger" in larger["why"]
    for step in others:
        assert step["size_bytes"][1] < step["size_bytes"][0]
        low, high = step["latency_ratio"][1:]
        assert low <= high
        assert step["kept"] or "it is slower" in step["why"]
    assert {"trial", "metrics", "costs", "settings"} == set(report["pareto"][0])

    again, _ = compressed(run, *flags)
    assert again["lineage"]["model"] == report["lineage"]["model"]
    assert (again["version"], again["live"], versions(run)) == (2, report["live"], [1, 2])
    reused, taken = again["details"]["reused"]
    assert reused == taken > 0


def test_a_child_of_another_seed_is_compressed_again_on_the_rows_of_its_first_parent(run, digits, recipe):
    _, err = compressed(run, "--recipe", recipe, "--budget", "1 trials", "--seed", "5", "--allow-loss", "0.9")
    assert "another seed" not in err
    registry = Registry((place := Home(digits)).database, place.blobs)
    first, second = (look(compression(f"digits@{number}", ""), registry).job.splits for number in (1, 2))
    for one, other in zip(
        (first.train, first.valid, first.test), (second.train, second.valid, second.test), strict=True
    ):
        assert np.array_equal(one.columns["image"], other.columns["image"])
    code, out, err = run("compress", "digits@2", "--recipe", recipe, "--budget", "1 trials", "--seed", "7", "--json")
    assert code == 0, err
    assert json.loads(out)["data"]["digest"] == first.digest
    assert "another seed" not in err


def test_people_read_what_was_dropped_and_where_figures_hold(run, digits, recipe):
    code, out, err = run("compress", "digits@1", "--recipe", recipe, "--budget", "1 trials", "--workers", "1")
    assert code == 0, err
    shown = ("★ won", "How it was compressed", "distill.larger", "dropped", "it makes the file larger", "digits@2 is")
    for words in shown:
        assert words in " ".join(out.split())
    page = next(line for line in out.splitlines() if line.startswith("The report: ")).removeprefix("The report: ")
    assert "distill.larger" in Path(page).read_text()


def test_a_limit_that_nothing_can_keep_ends_with_3_and_the_nearest_and_publishes_nothing(run, digits, recipe):
    flags = ("--recipe", recipe, "--budget", "2 trials", "--limit", "size_kb=0.2", "--workers", "1", "--json")
    code, out, _ = run("compress", "digits@1", *flags)
    assert code == 3
    error = json.loads(out)["error"]
    assert error["code"] == "goal"
    assert "the nearest" in error["message"]
    assert "size_kb" in error["message"]
    assert versions(run) == [1]


def test_a_version_that_nothing_improves_stays(run, digits, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('[[compress]]\nmethod = "distill.larger"\nepochs = 1\n')
    report, _ = compressed(run, "--recipe", path, "--budget", "1 trials")
    assert (report["version"], report["details"]["stays"]) == (1, True)
    assert versions(run) == [1]


def test_a_child_is_held_against_its_parent_as_it_is_served(run, digits, recipe, tmp_path):
    """What was searched may be smaller than what is served: a step was dropped when it was made anew."""
    compressed(run, "--recipe", recipe, "--budget", "1 trials", "--allow-loss", "0.9")
    registry = Registry((place := Home(digits)).database, place.blobs)
    parent, small = registry.find("digits@1"), registry.find("digits@2")
    files = {name: registry.file(parent, name) for name in parent.files}
    files[SEARCHED_GRAPH] = registry.file(small, "model.onnx")
    registry.publish("digits", files, parent.signature, lineage=parent.lineage)
    path = tmp_path / "light.toml"
    path.write_text('[[compress]]\nmethod = "prune.magnitude"\nratio = 0.4\nepochs = 8\n')
    flags = ("--recipe", path, "--budget", "1 trials", "--allow-loss", "0.9", "--json")
    code, out, err = run("compress", "digits@3", "--workers", "1", *flags)
    assert code == 0, err
    report = json.loads(out)
    assert (report["version"], report["details"]["base"]) == (4, "digits@3")
    assert small.sizes["model.onnx"] < report["costs"]["size_bytes"] < parent.sizes["model.onnx"]


def test_answers_that_depend_on_the_rows_beside_them_tell_nothing(run, home, tmp_path):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [0])
    nodes = [helper.make_node("ReduceMean", ["x", "axes"], ["mean"]), helper.make_node("Sub", ["x", "mean"], ["y"])]
    graph = helper.make_graph(nodes, "centred", [x], [y], [axes])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "c.onnx")
    np.savez(tmp_path / "rows.npz", x=np.random.default_rng(0).standard_normal((100, 4)).astype(np.float32))
    code, _, err = run("import", tmp_path / "c.onnx", "--name", "centred")
    assert code == 0, err
    code, out, _ = run("compress", "centred", "--data", tmp_path / "rows.npz", "--budget", "1 trials", "--json")
    assert code == 1
    assert "depends on the rows asked with it" in json.loads(out)["error"]["message"]


def test_bytes_in_the_store_can_be_asked_for(run, digits, tmp_path):
    path = tmp_path / "recipe.toml"
    # Zeros alone make nothing faster, and a graph beside its equal is slower by chance: channels are cut as well.
    path.write_text(
        '[[compress]]\nmethod = "prune.magnitude"\nratio = 0.5\nepochs = 4\n'
        '[[compress]]\nmethod = "prune.weights"\nratio = 0.9\nepochs = 4\n'
    )
    flags = ("--recipe", path, "--budget", "1 trials", "--allow-loss", "0.3")
    report, _ = compressed(run, *flags, "--limit", "stored_kb=40")
    assert not report["details"].get("stays")
    assert report["limits"]["stored_kb"]["kept"]
    assert report["limits"]["stored_kb"]["value"] == report["costs"]["stored_bytes"] / 1000
    assert report["costs"]["stored_bytes"] < 0.5 * report["baseline"]["costs"]["stored_bytes"]
    assert report["costs"]["size_bytes"] <= report["baseline"]["costs"]["size_bytes"]


@pytest.mark.parametrize("moment", ["#0", "Making"])
def test_a_killed_run_publishes_nothing_and_the_same_command_goes_on(digits, run, recipe, moment):
    flags = ["compress", "digits@1", "--recipe", str(recipe), "--budget", "2 trials", "--workers", "1", "--json"]
    process = subprocess.Popen([*MODELMILL, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if moment in line:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert versions(run) == [1]
    code, out, err = run(*flags)
    assert code == 0, err
    assert "goes on" in err
    assert json.loads(out)["version"] == 2


def test_ctrl_c_publishes_nothing(digits, run, recipe):
    hear = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    heard = f"{hear}; from modelmill.cli import main; main()"
    flags = ["compress", "digits@1", "--recipe", str(recipe), "--budget", "300 trials", "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-c", heard, *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for line in process.stderr:
        if "#0" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 130
    assert versions(run) == [1]


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["digitz"], 1, "Did you mean digits"),
        (["digits@7"], 1, "no version named '7'"),
        (["digits", "--limit", "bytes=3"], 2, "no limit named 'bytes'"),
        (["digits", "--allow-loss", "1.5"], 2, "goal.allow_loss"),
        (["digits", "--data", "iris"], 2, "the column 'image' is missing"),
        (["digits", "--data", "nothere.npz"], 1, "there is no such file"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(run, digits, flags, code, words):
    found, _, err = run("compress", *flags)
    assert found == code
    assert words in err


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ('method = "prune.tailor"', "Did you mean prune.taylor"),
        ('method = "prune.taylor"\nratio = 1.0', "prune.taylor.ratio"),
        ('method = "distill.merge"', "distill.merge needs the setting 'model'"),
        ('method = "convert.onnx"\n[arch]\nmethod = "mlp"', "[arch] is no table of a recipe"),
        ('method = "quantize.static"\n[[compress]]\nmethod = "prune.magnitude"', "fits no branch"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_a_usage_error(run, digits, tmp_path, step, words):
    path = tmp_path / "recipe.toml"
    path.write_text(f"[[compress]]\n{step}\n")
    code, _, err = run("compress", "digits", "--recipe", path)
    assert code == 2
    assert words in err


def pixels(rows):
    from modelmill.data.read import read

    data = read({"method": "builtin", "name": "digits"})
    return data.columns["image"][:rows], data.target[:rows]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: (x, np.where(y == 3, 11, y)), "holds the class 11, which digits@1 does not know"),
        (lambda x, y: (x[:, :7], y), "has the shape"),
        (lambda x, y: (x[:9], y[:9]), "9 rows; at least 20"),
        (lambda x, y: (x[:0], y[:0]), "0 rows; at least 20"),
    ],
)
def test_rows_that_do_not_fit_the_version_are_refused(run, digits, tmp_path, change, words):
    x, y = change(*pixels(100))
    np.savez(tmp_path / "rows.npz", x=x, y=y)
    code, _, err = run("compress", "digits", "--data", tmp_path / "rows.npz")
    assert code == 1
    assert words in err


def test_without_the_truth_quality_is_agreement_and_nothing_becomes_live(digits, recipe):
    import modelmill

    x, _ = pixels(400)
    report = modelmill.compress_model("digits@1", x, budget="1 trials", settings={"recipe": str(recipe), "workers": 1})
    assert isinstance(report, Report)
    assert report.baseline.metrics["accuracy"].value == 1.0
    assert report.details["agreement"] is True
    assert (report.version, report.live) == (2, False)


def test_a_step_that_was_measured_to_be_slower_is_dropped_and_what_follows_is_made_anew(tmp_path):
    blobs = Blobs(tmp_path / "blobs")
    before, middle, after = (blobs.put(bytes([i])) for i in range(3))
    known = {f"{before} {middle}": (1.5, 1.4, 1.6), f"{middle} {after}": (0.5, 0.4, 0.6)}
    (tmp_path / "timings.json").write_bytes(msgspec.json.encode(known))
    steps = [
        Outcome("first", {}, 0, kept=True, graphs=(before, middle)),
        Outcome("second", {}, 1, kept=True, graphs=(middle, after)),
    ]
    watch = Stopwatch(None, blobs, tmp_path / "timings.json")
    slow, later = watch.steps(steps)
    assert (slow.kept, slow.latency_ratio) == (False, (1.5, 1.4, 1.6))
    assert "1.50 times as long (1.40 to 1.60)" in slow.why
    assert later == steps[1]
    insisted = msgspec.structs.replace(steps[0], insisted=True)
    assert [one.kept for one in watch.steps([insisted, steps[1]])] == [True, True]


@pytest.mark.parametrize("bits", [7, 8])
def test_seven_bits_answer_alike_on_every_machine_and_eight_are_simulated_without_vnni(make, judge, bits):
    from modelmill.graph.export import export
    from modelmill.train.trainers.adam import Adam

    model, data, task = make("image", {"method": "mlp", "width": 32, "depth": 1})
    trained = list(Adam(epochs=5)(model, data, task, judge, 0))[-1].result
    graph = trained.with_body(export(trained, task), "graph", "")
    quantized = list(Static(weight_bits=bits)(graph, data, task, judge, 0))[-1].result
    found = machines(quantized.body.value, data.valid, model.signature, "accuracy")
    assert found["bytes"] > 0
    assert ("cut" in found) is (bits == 8) is (found["saturating"] > 0)
    if bits == 8:
        assert {"whole", "rows"} <= found.keys()


def test_a_stated_test_set_is_neither_learned_from_nor_chosen_by(digits, home):
    from modelmill.recipe.parent import rows
    from modelmill.spec import Spec

    x, y = pixels(100)
    np.savez(home / "rows.npz", x=x, y=y, x_test=x[:30], y_test=y[:30])
    place = Home(home)
    version = Registry(place.database, place.blobs).find("digits")
    data, _ = rows(Spec(data={"method": "npz", "path": str(home / "rows.npz")}), None, Spec(data={}), version)
    assert (data.rows, data.test.rows) == (100, 30)


def test_columns_that_no_input_takes_are_refused(run, home):
    import modelmill
    from modelmill.errors import ContentError

    assert run("build", "iris", "--budget", "1 trials", "--quiet")[0] == 0
    with pytest.raises(ContentError, match=r"x has the shape \[60, 5\]; expected \(rows, 4\): sepal length"):
        modelmill.compress_model("iris", np.ones((60, 5), np.float32), budget="1 trials")
