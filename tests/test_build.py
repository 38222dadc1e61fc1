"""The main job, end to end, on real rows: what a build prints, keeps, publishes and repeats."""

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from modelmill.mill import build
from modelmill.registry.registry import Registry
from modelmill.serve.models.endpoint import load as load_endpoint
from modelmill.store.home import Home
from modelmill.store.packing.packed import stored

KEYS = {
    "name", "version", "live", "task", "data", "metrics", "costs", "baseline", "limits", "pareto", "trials", "seconds",
    "spec", "lineage",
}  # fmt: skip
COSTS = {"latency_ms", "throughput_rps", "size_bytes", "stored_bytes", "memory_mb", "energy_mj", "macs"}

MODELMILL = [sys.executable, "-m", "modelmill.cli"]


def test_the_json_of_a_build_has_the_keys_of_the_contract(built):
    _, report = built
    assert set(report) >= KEYS
    assert set(report["costs"]) >= COSTS
    assert set(report["data"]) == {"digest", "rows", "features"}
    assert set(report["lineage"]) == {"model", "data", "spec", "parent", "tools"}
    assert set(report["trials"]) == {"done", "stopped", "failed"}
    assert set(report["baseline"]) == {"metrics", "costs"}
    accuracy = report["metrics"]["accuracy"]
    assert set(accuracy) == {"value", "split", "interval"}
    assert accuracy["split"] == "test"
    assert accuracy["interval"][0] <= accuracy["value"] <= accuracy["interval"][1]


def test_a_build_publishes_a_live_version_that_is_better_than_chance(built):
    _, report = built
    assert (report["name"], report["version"], report["live"], report["task"]) == ("iris", 1, True, "classify")
    assert report["data"]["rows"] == 150
    assert report["data"]["features"] == 4
    assert report["metrics"]["accuracy"]["value"] > 0.85
    assert report["trials"]["done"] + report["trials"]["stopped"] + report["trials"]["failed"] == 4


def test_the_run_keeps_its_spec_and_its_report(built):
    home, report = built
    (folder,) = (home / "runs").iterdir()
    assert "[goal]" in (folder / "spec.toml").read_text()
    assert json.loads((folder / "report.json").read_text())["lineage"] == report["lineage"]
    page = (folder / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "https://" not in page.replace("https://www.w3.org", "").replace("http://www.w3.org", "")


def test_the_lineage_names_the_bytes_that_are_served(built, in_built):
    import modelmill

    model = modelmill.load("iris@1")
    assert built[1]["lineage"]["model"] == "sha256:" + hashlib.sha256(model.graph).hexdigest()
    assert built[1]["costs"]["size_bytes"] == len(model.graph)
    assert built[1]["costs"]["stored_bytes"] == len(stored(model.graph))


def test_the_served_graph_takes_raw_rows_and_gives_class_names(in_built):
    import modelmill

    answers = modelmill.load("iris").predict([[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]])
    assert answers["label"].tolist() == ["setosa", "virginica"]
    assert answers["probabilities"].shape == (2, 3)
    assert np.allclose(answers["probabilities"].sum(1), 1, atol=1e-5)


def test_rows_may_be_objects_lists_or_columns(in_built):
    import modelmill

    model = modelmill.load("iris@live")
    names = [field.name for field in model.version.signature.inputs]
    row = [5.9, 3.0, 5.1, 1.8]
    asked = [
        model.predict([row]),
        model.predict([dict(zip(names, row, strict=True))]),
        model.predict({name: np.array([value]) for name, value in zip(names, row, strict=True)}),
        model.predict(np.array([row])),
    ]
    for answer in asked[1:]:
        assert np.array_equal(answer["probabilities"], asked[0]["probabilities"])


def build_twice(run, *flags):
    reports = []
    for _ in range(2):
        code, out, err = run("build", *flags, "--workers", "1", "--json", "--fresh")
        assert code == 0, err
        reports.append(json.loads(out))
    return reports


def test_the_same_seed_gives_the_same_suggestions_qualities_and_bytes(run):
    first, second = build_twice(run, "wine", "--budget", "7 trials", "--seed", "3")
    for key in ("settings", "metrics", "state", "artifact"):
        assert [t[key] for t in first["details"]["trials"]] == [t[key] for t in second["details"]["trials"]]
    assert first["lineage"]["model"] == second["lineage"]["model"]
    assert (first["version"], second["version"]) == (1, 2)


@pytest.mark.parametrize("moment", ["#1", "Making"])
def test_a_killed_build_goes_on_where_it_was(home, run, moment):
    command = [*MODELMILL, "build", "iris", "--budget", "6 trials", "--workers", "1", "--seed", "5", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if moment in line:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    code, out, err = run(*command[3:])
    assert code == 0, err
    assert "goes on" in err
    again = json.loads(out)
    code, out, _ = run(*command[3:], "--fresh")
    assert code == 0
    fresh = json.loads(out)
    for key in ("settings", "metrics"):
        assert [t[key] for t in again["details"]["trials"]] == [t[key] for t in fresh["details"]["trials"]]
    assert again["lineage"]["model"] == fresh["lineage"]["model"]


def test_ctrl_c_keeps_what_was_done_and_says_so(home, run):
    # A shell that runs the tests in the background has them ignore Ctrl-C, and all that they start.
    hear = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    heard = f"{hear}; from modelmill.cli import main; main()"
    command = [sys.executable, "-c", heard, "build", "iris", "--budget", "500 trials", "--workers", "1"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    for line in process.stderr:
        if "#1" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(30) == 130
    assert "What was measured is kept" in rest
    assert "The best so far" in rest
    process.stderr.close()
    code, out, _ = run("models", "list", "--json")
    assert (code, json.loads(out)) == (0, [])


def test_a_limit_that_nothing_can_keep_ends_with_3_and_the_nearest(run):
    code, out, err = run("build", "iris", "--limit", "size_kb=0.1", "--budget", "5 trials", "--json")
    assert code == 3, err
    error = json.loads(out)["error"]
    assert set(error) == {"code", "where", "message", "try"}
    assert error["code"] == "goal"
    assert "size_kb by" in error["message"]


def test_a_budget_that_is_too_short_for_one_trial_ends_with_3(run):
    code, out, err = run("build", "breast_cancer", "--budget", "0.01s", "--json")
    assert code == 3, err
    assert "budget" in json.loads(out)["error"]["message"]


def test_a_full_disk_while_publishing_leaves_nothing_half_written(home, run, tmp_path):
    code = """
import errno, os, sys
from modelmill.store import disk
real = os.fsync
def full(descriptor):
    if os.environ.get("FULL") == "1" and "blobs" in os.readlink(f"/proc/self/fd/{descriptor}"):
        raise OSError(errno.ENOSPC, "No space left on device")
    return real(descriptor)
os.fsync = full
from modelmill import mill
inner = mill.published
def published(*arguments):
    os.environ["FULL"] = "1"
    yield from inner(*arguments)
mill.published = published
from modelmill.cli import run
sys.exit(run(["build", "iris", "--budget", "2 trials", "--workers", "1", "--json"]))
"""
    script = tmp_path / "full.py"
    script.write_text(f"if __name__ == '__main__':\n    exec({code!r})\n")
    done = subprocess.run([MODELMILL[0], str(script)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1, done.stderr
    assert "No space left" in json.loads(done.stdout)["error"]["message"]
    status, out, _ = run("models", "list", "--json")
    assert (status, json.loads(out)) == (0, [])


def test_the_test_set_that_is_stated_is_the_one_that_is_scored(run, tmp_path):
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    for name, index in (("train", order[:110]), ("test", order[110:])):
        lines = ["a,b,c,d,kind", *(",".join(map(str, [*x[i], "xyz"[y[i]]])) for i in index)]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    code, out, err = run(
        "build",
        tmp_path / "train.csv",
        "--test",
        tmp_path / "test.csv",
        "--target",
        "kind",
        "--budget",
        "2 trials",
        "--json",
    )
    assert code == 0, err
    report = json.loads(out)
    assert report["name"] == "train"
    assert report["data"]["rows"] == 150
    assert sum(map(sum, report["details"]["confusion"]["matrix"])) == 40


def test_a_better_version_becomes_live_and_a_worse_one_does_not(run):
    first = json.loads(run("build", "wine", "--budget", "1 trials", "--json")[1])
    code, out, err = run("build", "wine", "--budget", "1 trials", "--json", "--fresh")
    assert code == 0, err
    second = json.loads(out)
    assert first["live"]
    assert not second["live"]
    assert second["lineage"]["parent"] == "wine@1"
    assert "not better" in second["details"]["live_why"]
    third = json.loads(run("build", "wine", "--budget", "1 trials", "--json", "--fresh", "--promote")[1])
    assert third["live"]


def test_a_spec_file_repeats_a_run(built, run):
    (folder,) = (built[0] / "runs").iterdir()
    code, out, err = run("build", folder / "spec.toml", "--json")
    assert code == 0, err
    assert json.loads(out)["lineage"]["model"] == built[1]["lineage"]["model"]


@pytest.mark.parametrize("minimize", ["size_kb", "latency_ms"])
def test_several_objectives_leave_a_front(run, minimize):
    code, out, err = run(
        "build", "iris", "--maximize", "accuracy", "--minimize", minimize, "--budget", "5 trials", "--json"
    )
    assert code == 0, err
    front = json.loads(out)["pareto"]
    key = "size_bytes" if minimize == "size_kb" else minimize
    points = sorted((point["metrics"]["accuracy"], point["costs"][key]) for point in front)
    assert points
    assert all(a[1] < b[1] for a, b in itertools.pairwise(points))


def test_reach_stops_the_search(run):
    code, out, err = run(
        "build", "iris", "--reach", "accuracy=0.5", "--budget", "50 trials", "--workers", "1", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["trials"]["done"] == 1


def test_a_class_with_a_single_row_is_built_with_every_family(run, tmp_path):
    rng = np.random.default_rng(0)
    lines = ["a,b,kind", *(f"{x:.3f},{y:.3f},{'big' if x > 0 else 'small'}" for x, y in rng.normal(size=(80, 2)))]
    (tmp_path / "single.csv").write_text("\n".join([*lines, "1,2,rare"]) + "\n")
    code, out, err = run("build", tmp_path / "single.csv", "--target", "kind", "--budget", "5 trials", "--json")
    assert code == 0, err
    report = json.loads(out)
    assert "rare" in err
    assert [t["state"] for t in report["details"]["trials"]] == ["done"] * 5
    assert report["metrics"]["accuracy"]["value"] > 0.8


def test_limits_that_untrained_graphs_break_end_with_3_and_the_nearest(run):
    code, out, err = run("build", "digits", "--limit", "latency_ms=0.000001", "--budget", "2 trials", "--json")
    assert code == 3, err
    message = json.loads(out)["error"]["message"]
    assert "misses latency_ms by" in message


def test_a_metric_of_another_task_is_refused_before_any_work(run):
    code, out, _ = run("build", "diabetes", "--maximize", "accuracy", "--json")
    assert code == 2
    assert "r2" in json.loads(out)["error"]["try"]


def test_a_version_whose_answers_are_averages_of_a_series_is_served_call_by_call(home, tmp_path):
    random = np.random.default_rng(0)
    level = np.sin(np.arange(300) / 20)
    times = (f"2026-01-01T{minute // 60:02}:{minute % 60:02}:00" for minute in itertools.count())
    rows = [f"{at},{x + random.normal() / 3:.4f},{x:.4f}" for at, x in zip(times, level, strict=False)]
    (tmp_path / "series.csv").write_text("\n".join(["at,x,y", *rows]))
    steps = build(
        {
            "data": {"method": "csv", "path": str(tmp_path / "series.csv"), "target": "y", "time": "at"},
            "goal": {"minimize": "rmse", "budget": "1 trials"},
            "arch": {"method": "mlp", "width": 8},
            "train": {"method": "adam", "epochs": 5},
            "search": {"folds": 1},
            "compress": [{"method": "average.smooth", "window": 5, "insist": True}],
        },
        Home(home),
    )
    (*_, report) = steps
    place = Home(home)
    registry = Registry(place.database, place.blobs)
    version = registry.find(f"{report.name}@1")
    assert version.signature.series
    endpoint = load_endpoint(version, registry.file(version, "model.onnx"), lambda *told: None)
    assert not endpoint.lane.batches
