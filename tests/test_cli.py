"""The command line's faces: verbs, exit codes, and errors that say where, what came, what was wanted, what to try."""

import json
import subprocess
import sys

import pytest

import modelmill
from modelmill.cli import run as run_inside

MODELMILL = [sys.executable, "-m", "modelmill.cli"]


def failed(capsys, *arguments):
    """Exit code and the error of a command that fails with --json."""
    code = run_inside([*map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    error = json.loads(out)["error"]
    assert set(error) == {"code", "where", "message", "try"}
    assert err.startswith("modelmill: ")
    return code, error, err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "irisz"], "iris"),
        (["build", "iris", "--maximize", "acuracy"], "accuracy"),
        (["build", "iris", "--limit", "latency=1"], "latency_ms"),
        (["build", "iris", "--limit", "size_kb=-1"], "above 0"),
        (["build", "iris", "--limit", "size_kb=small"], "not a number"),
        (["build", "iris", "--limit", "size_kb"], "NAME=VALUE"),
        (["build", "iris", "--budget", "soon"], "60s"),
        (["build", "iris", "--reach", "size=1"], "no metric"),
        (["build", "iris", "--task", "clasify"], "classify"),
        (["build", "iris", "--target", "colour"], "colour"),
        (["build", "iris", "--seed", "-1"], "seed"),
        (["build", "iris", "--seed", "99999999999999999999"], "seed"),
        (["build", "iris", "--workers", "100000"], "workers"),
        (["build", "iris", "--limit", "latency_ms=inf"], "not a number"),
        (["buidl", "iris"], "buidl"),
        (["build", "iris", "--maximise", "accuracy"], "--maxim"),
        (["methods", "archs"], "arch"),
        (["build"], "SOURCE"),
    ],
)
def test_what_the_command_line_shows_to_be_wrong_ends_with_2(home, capsys, arguments, words):
    code, error, err = failed(capsys, *arguments)
    assert code == 2, err
    assert words.lower() in err.lower()
    assert error["message"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no.csv"),
        (b"", "empty"),
        (b"a,b,target\n", "row"),
        (b"a,b,target\n1,2,x\n3,4\n5,6,y\n", "line 3"),
        (b"a,target\n\xff\xfe\xfa,1\n", "utf-8"),
        (b"a,target\n1,x\n2,x\n3,x\n4,x\n5,x\n6,x\n", "class"),
        (b"a,target\n1,x\n", "row"),
        (b"a,target\n1,\n2,\n3,\n4,\n", "missing"),
    ],
)
def test_a_file_that_cannot_be_used_ends_with_1(home, tmp_path, capsys, content, words):
    path = tmp_path / "no.csv"
    if content is not None:
        path.write_bytes(content)
    code, error, err = failed(capsys, "build", path, "--target", "target")
    assert code == 1, err
    assert "no.csv" in err
    assert words in err.lower()
    assert error["code"] in ("source", "content")


def test_a_folder_that_is_no_source_ends_with_1(home, tmp_path, capsys):
    (tmp_path / "readme.md").write_text("hello")
    code, error, _ = failed(capsys, "build", tmp_path)
    assert code == 1
    assert error["code"] == "source"


def test_an_unknown_model_ends_with_1_and_names_the_closest(in_built, capsys):
    code, error, _ = failed(capsys, "models", "show", "irsi")
    assert code == 1
    assert error["code"] == "unknown_model"
    assert "iris" in error["try"]


def test_help_lists_the_verbs():
    done = subprocess.run([*MODELMILL, "--help"], capture_output=True, text=True, check=True)
    for verb in (
        "build",
        "compress",
        "import",
        "check",
        "predict",
        "evaluate",
        "monitor",
        "serve",
        "methods",
        "models",
        "doctor",
    ):
        assert f"  {verb}" in done.stdout
    assert "--install-completion" in done.stdout


def test_version_is_said():
    done = subprocess.run([*MODELMILL, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"modelmill {modelmill.__version__}\n"


def test_help_brings_no_heavy_library():
    code = (
        "import sys; from modelmill.cli import run; run(['--help']);"
        "bad = {'torch', 'numpy', 'onnxruntime', 'sklearn', 'sqlalchemy'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_methods_lists_settings_bounds_defaults_and_papers(capsys):
    assert run_inside(["methods", "train"]) == 0
    out = capsys.readouterr().out
    assert "learning_rate: float" in out
    assert "(> 0, <= 1)" in out
    assert "https://arxiv.org/abs/1412.6980" in out


def test_methods_as_json_is_one_document(capsys):
    assert run_inside(["methods", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert {"arch", "train", "sampler", "metrics"} <= {entry["family"] for entry in entries}


def test_doctor_says_cores_and_instructions(home, capsys):
    assert run_inside(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cores"] >= 1
    assert isinstance(found["instructions"], list)
    assert found["installed"]["onnxruntime"]


def test_check_looks_at_data_without_training(home, capsys):
    assert run_inside(["check", "iris", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["card"]["rows"] == 150
    assert any(finding["check"] == "duplicates" for finding in found["findings"])


def test_models_list_show_compare_verify_as_json(in_built, built, capsys):
    assert run_inside(["models", "list", "--json"]) == 0
    (version,) = json.loads(capsys.readouterr().out)
    assert (version["name"], version["number"], version["aliases"]) == ("iris", 1, ["live"])
    assert run_inside(["models", "show", "iris", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["report"]["metrics"] == built[1]["metrics"]
    assert shown["events"][0]["verb"] == "publish"
    assert all(0 < kept <= shown["version"]["sizes"][file] for file, kept in shown["stored"].items())
    assert run_inside(["models", "compare", "iris@1", "iris@live", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["figures"]["size_bytes"]["ratio"] == 1
    assert run_inside(["models", "verify", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"iris@1": []}


def test_the_tables_for_people_are_printed(in_built, capsys):
    for arguments in (
        ["models", "list"],
        ["models", "show", "iris"],
        ["models", "compare", "iris", "iris"],
        ["doctor"],
    ):
        assert run_inside(arguments) == 0
        assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl", "npz"])
def test_predict_answers_every_row_of_a_file(in_built, tmp_path, capsys, suffix):
    names = [field.name for field in modelmill.load("iris").version.signature.inputs]
    rows = tmp_path / "rows.csv"
    rows.write_text(",".join(names) + "\n5.1,3.5,1.4,0.2\n6.3,3.3,6.0,2.5\n")
    output = tmp_path / f"answers.{suffix}"
    assert run_inside(["predict", "iris", "--input", str(rows), "--output", str(output)]) == 0
    assert "2 rows" in capsys.readouterr().err
    assert labels(output) == ["setosa", "virginica"]


@pytest.mark.parametrize("suffix", ["csv", "npz"])
def test_predict_does_not_write_over_what_it_reads(in_built, tmp_path, capsys, suffix):
    rows = tmp_path / f"rows.{suffix}"
    if suffix == "csv":
        rows.write_text("a\n1\n")
    else:
        import numpy as np

        np.savez(rows, x=np.zeros((2, 4)))
    before = rows.read_bytes()
    code, error, _ = failed(capsys, "predict", "iris", "--input", rows, "--output", rows)
    assert (code, error["code"]) == (2, "usage")
    assert "is what is read" in error["message"]
    assert rows.read_bytes() == before


def test_a_missing_column_ends_with_2_and_a_bad_value_with_1(in_built, tmp_path, capsys):
    names = [field.name for field in modelmill.load("iris").version.signature.inputs]
    rows = tmp_path / "rows.csv"
    rows.write_text(",".join(names[:3]) + "\n5.1,3.5,1.4\n")
    code, error, _ = failed(capsys, "predict", "iris", "--input", rows)
    assert (code, error["code"]) == (2, "unknown_name")
    assert f"{names[3]!r} is missing" in error["message"]
    rows.write_text(",".join(names) + "\n5.1,3.5,1.4,wide\n")
    code, error, _ = failed(capsys, "predict", "iris", "--input", rows)
    assert (code, error["code"]) == (1, "content")


def labels(path):
    if path.suffix == ".csv":
        import pyarrow.csv

        return pyarrow.csv.read_csv(path)["label"].to_pylist()
    if path.suffix == ".parquet":
        import pyarrow.parquet

        return pyarrow.parquet.read_table(path)["label"].to_pylist()
    if path.suffix == ".npz":
        import numpy as np

        with np.load(path, allow_pickle=False) as arrays:
            return arrays["label"].tolist()
    return [json.loads(line)["label"] for line in path.read_text().splitlines()]


def test_predict_on_a_terminal_prints_csv(in_built, tmp_path):
    names = [field.name for field in modelmill.load("iris").version.signature.inputs]
    rows = tmp_path / "rows.csv"
    rows.write_text(",".join(names) + "\n5.1,3.5,1.4,0.2\n")
    done = subprocess.run([*MODELMILL, "predict", "iris", "--input", rows], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0].startswith('"label"')
    assert "setosa" in done.stdout


def test_evaluate_scores_rows_with_the_truth(in_built, capsys):
    assert run_inside(["evaluate", "iris", "--data", "iris", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 150
    assert found["metrics"]["accuracy"]["value"] > 0.85
    assert found["costs"]["size_bytes"] > 0
