"""Files of any size are answered in order, in bounded memory, and by runs that may be killed."""

from __future__ import annotations

import functools
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pyarrow
import pytest
from pyarrow import csv, parquet

from modelmill.bulk.answer import Pace, answer_file
from modelmill.bulk.unfinished import Unfinished
from modelmill.data.read import read_for
from modelmill.errors import ContentError, OutOfBounds, SourceError, UnknownName, UsageError, WorkError
from modelmill.evaluate.judge import predict
from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.registry.registry import Registry
from modelmill.signature import Field, Signature
from modelmill.store.home import Home

SMALL = Pace(runners=3, block_rows=64, text_bytes=4096)
HERE = Path(__file__).parent


def write(table: pyarrow.Table, path: Path, group: int = 1000) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=group)
    elif path.suffix == ".csv":
        csv.write_csv(table, path)
    else:
        path.write_text("\n".join(json.dumps(row) for row in table.to_pylist()) + "\n\n")
    return path


def read(path: Path) -> pyarrow.Table:
    if path.suffix == ".parquet":
        return parquet.read_table(path)
    if path.suffix == ".csv":
        return csv.read_csv(path)
    found = [json.loads(line) for line in path.read_text().splitlines()]
    flat = [
        {"label": row["label"], **{f"probability_{k}": v for k, v in row["probabilities"].items()}} for row in found
    ]
    return pyarrow.Table.from_pylist(flat)


def answered(model, source: Path, output: Path, pace: Pace = SMALL, fresh: bool = False):
    return list(answer_file(*model, source, output, fresh, pace))


@pytest.mark.parametrize("source", ["rows.parquet", "rows.csv", "rows.jsonl"])
@pytest.mark.parametrize("output", ["out.parquet", "out.csv", "out.jsonl"])
def test_every_row_is_answered_in_order_as_if_all_were_read_at_once(model, tmp_path, source, output, rows):
    path = write(rows(2500), tmp_path / source)
    steps = answered(model, path, tmp_path / output)
    wanted = predict(model[0], read_for(model[1], path))
    found = read(tmp_path / output)
    assert found["label"].to_pylist() == wanted["label"].tolist()
    got = np.column_stack([found[name].to_numpy() for name in found.column_names[1:]])
    np.testing.assert_allclose(got, wanted["probabilities"], atol=1e-5)
    assert (steps[0].rows, steps[-1].rows, steps[-1].share) == (0, 2500, 1.0)
    assert steps[-1].size_bytes == (tmp_path / output).stat().st_size
    assert [step.share for step in steps] == sorted(step.share for step in steps)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([source, output])


@pytest.mark.parametrize("source", ["rows.parquet", "rows.csv", "rows.jsonl"])
def test_an_input_of_one_element_a_row_is_a_column_among_others(tmp_path, source, rows):
    writer = Writer()
    writer.rename(writer.op("Neg", ["c0"]), "less")
    writer.rename("kind", "same")
    fields = (Field("c0", "FP32", (-1, 1), "array", True), Field("kind", "BYTES", (-1, 1), "category"))
    outputs = (Field("less", "FP32", (-1, 1), "array"), Field("same", "BYTES", (-1, 1), "category"))
    columns = to_onnx(writer.fragment(), fields, outputs), Signature("compute", fields, outputs)
    table = rows(300)
    path = write(table, tmp_path / source)
    answered(columns, path, tmp_path / "out.parquet")
    found = parquet.read_table(tmp_path / "out.parquet")
    assert found["same"].to_pylist() == table["kind"].to_pylist()
    wanted = np.array([np.nan if value is None else -value for value in table["c0"].to_pylist()])
    np.testing.assert_allclose(found["less"].to_numpy(), wanted, rtol=1e-6)
    answered(columns, path, tmp_path / "out.csv")
    written = csv.read_csv(tmp_path / "out.csv", parse_options=csv.ParseOptions(newlines_in_values=True))
    assert written["same"].to_pylist() == table["kind"].to_pylist()
    np.testing.assert_allclose(written["less"].to_numpy(), wanted, rtol=1e-6)
    answered(columns, path, tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["same"] for line in lines] == table["kind"].to_pylist()
    np.testing.assert_allclose(np.array([line["less"] for line in lines], float), wanted, rtol=1e-6)


def doubled(rows=-1, axis=0, series=False):
    """Gives x less, and the state as it came: it takes so many rows at a time, those of the state on that axis."""
    writer = Writer()
    writer.rename(writer.op("Neg", ["x"]), "less")
    writer.rename("state", "same")
    shape = (rows, 1) if axis == 0 else (1, rows)
    fields = (Field("x", "FP32", (rows, 1), "array"), Field("state", "FP32", shape, "array", axis=axis))
    outputs = (Field("less", "FP32", (rows, 1), "array"), Field("same", "FP32", shape, "array", axis=axis))
    return to_onnx(writer.fragment(), fields, outputs), Signature("compute", fields, outputs, series=series)


@pytest.mark.parametrize("source", ["rows.parquet", "rows.csv", "rows.jsonl"])
@pytest.mark.parametrize("made", [{"rows": 1}, {"rows": 8}, {"axis": 1}])
def test_models_of_a_fixed_number_of_rows_or_with_rows_elsewhere_answer_files_of_any(tmp_path, source, made):
    numbers = np.arange(301, dtype=float)
    path = write(pyarrow.table({"x": numbers, "state": numbers / 2}), tmp_path / source)
    steps = answered(doubled(**made), path, tmp_path / "out.parquet")
    found = parquet.read_table(tmp_path / "out.parquet")
    assert steps[-1].rows == 301
    assert found["less"].to_pylist() == [-number for number in numbers]
    assert found["same"].to_pylist() == [number / 2 for number in numbers]


@pytest.mark.parametrize("count", [7, 9, 64, 65])
def test_rows_of_a_series_are_not_cut_to_a_fixed_number(tmp_path, count):
    numbers = np.arange(count, dtype=float)
    path = write(pyarrow.table({"x": numbers, "state": numbers}), tmp_path / "rows.parquet")
    for size in {8, 64} - {count}:
        with pytest.raises(ContentError, match=f"takes {size} at a time, which are a series"):
            answered(doubled(size, series=True), path, tmp_path / "out.parquet")
    if count <= 64:
        assert answered(doubled(count, series=True), path, tmp_path / "out.parquet")[-1].rows == count


def test_rows_that_belong_together_are_answered_in_one_call_or_not_at_all(tmp_path):
    writer = Writer()
    writer.rename(writer.op("CumSum", ["x", writer.constant(np.array(0))]), "y")
    fields, outputs = (Field("x", "FP32"),), (Field("y", "FP32"),)
    model = to_onnx(writer.fragment(), fields, outputs), Signature("compute", fields, outputs, series=True)
    path = write(pyarrow.table({"x": np.ones(6000)}), tmp_path / "rows.parquet")
    with pytest.raises(ContentError, match="belong together"):
        answered(model, path, tmp_path / "out.parquet", Pace(runners=3, block_rows=4096))
    assert not (tmp_path / "out.parquet").exists()
    answered(model, path, tmp_path / "out.parquet", Pace(runners=3))
    assert parquet.read_table(tmp_path / "out.parquet")["y"].to_pylist() == list(range(1, 6001))


@pytest.mark.parametrize("group", [7, 64, 100, 5000])
def test_row_groups_of_any_size_are_read_in_blocks(model, tmp_path, group, rows):
    path = write(rows(1000), tmp_path / "rows.parquet", group)
    steps = answered(model, path, tmp_path / "out.parquet")
    blocks = np.diff([step.rows for step in steps[:-1]])
    assert max(blocks) <= 64
    assert len(blocks) <= 1000 / 32 + 1
    wanted = predict(model[0], read_for(model[1], path))
    assert read(tmp_path / "out.parquet")["label"].to_pylist() == wanted["label"].tolist()


def test_the_parts_of_a_table_are_read_one_after_the_other(model, tmp_path, rows):
    folder = tmp_path / "parts"
    folder.mkdir()
    table = rows(900)
    write(table.slice(0, 500), folder / "a.csv")
    write(table.slice(500), folder / "b.csv")
    answered(model, folder, tmp_path / "out.csv")
    wanted = predict(model[0], read_for(model[1], folder))
    assert read(tmp_path / "out.csv")["label"].to_pylist() == wanted["label"].tolist()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_text_is_cut_only_where_a_row_ends(model, tmp_path, end):
    lines = ["c0,c1,c2,kind", *(f'{i}.5,,1e-3,"{"x" * (i % 90)}""{end},"' for i in range(400)), '1,2,5" wide,odd']
    lines[-1] = '1,2,3,5" wide'
    path = tmp_path / "rows.csv"
    path.write_bytes(("\ufeff" + end.join(lines)).encode())
    assert answered(model, path, tmp_path / "out.csv")[-1].rows == 401


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv", "rows.csv.gz", "rows.jsonl"])
@pytest.mark.parametrize("output", ["out.parquet", "out.csv"])
def test_a_run_that_ends_early_is_gone_on_with_from_any_block(model, tmp_path, name, output, rows):
    path = tmp_path / name
    write(rows(700), path.with_suffix("") if name.endswith(".gz") else path)
    if name.endswith(".gz"):
        import gzip

        path.write_bytes(gzip.compress(path.with_suffix("").read_bytes(), mtime=0))
    answered(model, path, tmp_path / output)
    whole = (tmp_path / output).read_bytes()
    (tmp_path / output).unlink()
    resumed = set()
    for stop in (1, 2, 4, 100):
        steps = answer_file(*model, path, tmp_path / output, pace=SMALL)
        for number, step in enumerate(steps):
            resumed.add(step.earlier_rows)
            if number == stop:
                steps.close()
    assert (tmp_path / output).read_bytes() == whole
    assert len(resumed) == 4


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_kills_at_random_instants_change_no_byte(model, tmp_path, form, rows):
    for name, data in (("graph", model[0]), ("signature", msgspec.json.encode(model[1]))):
        (tmp_path / name).write_bytes(data)
    path = write(rows(6000), tmp_path / "rows.parquet", 333)
    answered(model, path, tmp_path / f"whole.{form}", Pace(2, 50, 4096))
    output = tmp_path / f"out.{form}"
    command = [sys.executable, HERE / "child.py", tmp_path / "graph", tmp_path / "signature", path, output]
    dice = random.Random(form)
    starts = []
    for _ in range(4):
        child = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
        first = child.stdout.readline()
        starts.append(int(first.split()[0]))
        for _ in range(dice.randrange(1, 14)):
            child.stdout.readline()
        time.sleep(dice.random() * 0.01)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert not output.exists() or child.returncode == 0
    assert starts == sorted(starts)
    assert starts[-1] > 0
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    assert output.read_bytes() == (tmp_path / f"whole.{form}").read_bytes()


def test_a_journal_that_was_cut_short_is_believed_as_far_as_it_goes(model, tmp_path, rows):
    path, output = write(rows(700), tmp_path / "rows.csv"), tmp_path / "out.parquet"
    answered(model, path, output)
    whole = output.read_bytes()
    steps = answer_file(*model, path, output, pace=SMALL)
    for _ in range(5):
        next(steps)
    steps.close()
    journal = tmp_path / ".out.parquet.part.journal"
    journal.write_bytes(journal.read_bytes()[:-9])
    with (tmp_path / ".out.parquet.part").open("ab") as part:
        part.write(b"half a block")
    steps = answered(model, path, output)
    assert 0 < steps[0].rows < 700
    assert output.read_bytes() == whole


def test_what_was_begun_with_other_rows_or_another_model_starts_anew(model, tmp_path, rows, table_model):
    path, output = write(rows(500), tmp_path / "rows.csv"), tmp_path / "out.csv"

    def begin(chosen, fresh=False):
        steps = answer_file(*chosen, path, output, fresh, SMALL)
        first = next(steps)
        next(steps)
        steps.close()
        return first

    assert (begin(model).rows, begin(model).note) == (0, "")
    assert begin(model).rows > 0
    assert begin(table_model(seed=1)).note == "an earlier run was with another model"
    assert begin(model, fresh=True).rows == 0
    write(rows(500, seed=1), path)
    found = begin(model)
    assert (found.rows, found.note) == (0, "the input is not what it was")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rows.csv", r"rows.csv line 302: the value of c1 is 'oops'; expected a number"),
        ("rows.jsonl", r'rows.jsonl line 301 c1: came "oops", expected a number or null'),
    ],
)
def test_a_bad_row_is_named_and_what_was_answered_is_kept(model, tmp_path, name, words, rows):
    table = rows(500).to_pylist()
    for row in table:
        row["kind"] = "odd"
    table[300]["c1"] = "oops"
    path = tmp_path / name
    if name.endswith("csv"):
        lines = [",".join("" if value is None else str(value) for value in row.values()) for row in table]
        path.write_text("\n".join([",".join(table[0]), *lines]))
    else:
        path.write_text("\n".join(map(json.dumps, table)))
    with pytest.raises(ContentError, match=words):
        answered(model, path, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    steps = answer_file(*model, path, tmp_path / "out.csv", pace=SMALL)
    assert 0 < next(steps).rows <= 300
    steps.close()


def test_a_bad_row_of_parquet_is_named(model, tmp_path, rows):
    table = rows(500)
    kinds = table["kind"].to_pylist()
    kinds[321] = None
    path = write(table.set_column(1, "kind", pyarrow.array(kinds)), tmp_path / "rows.parquet", 90)
    with pytest.raises(ContentError, match=r"rows.parquet row 322: kind is missing"):
        answered(model, path, tmp_path / "out.csv")


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("rows.csv", b"c0,c1,c2,kind\n", ContentError, "holds no rows"),
        ("rows.csv", b"", SourceError, "is empty"),
        ("rows.csv", b"c0,c1,kind\n1,2,odd\n", UnknownName, "the column 'c2' is missing"),
        ("rows.csv", b"c0,c1,c2,kind\n1,2,3,odd\n1,2\n", ContentError, "line 3: the row has 2 values; expected 4"),
        ("rows.csv", b"c0,c1,c2,kind\n1,2,3,odd\n1,2,3,\xff\n", SourceError, "is not utf-8"),
        ("rows.csv", b"c0,c1,c2,kind\r1,2,3,odd\r", ContentError, "carriage return"),
        ("rows.parquet", b"PAR1 and no more", SourceError, "is no whole Parquet file"),
        ("rows.jsonl", b'{"c0": 1,\n', ContentError, "line 1: is not JSON"),
        ("rows.jsonl", b"", ContentError, "holds no rows"),
    ],
)
def test_files_without_good_rows_are_refused_and_leave_nothing(model, tmp_path, name, content, error, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=words):
        answered(model, tmp_path / name, tmp_path / "out.csv")
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_an_output_of_a_format_that_cannot_grow_is_refused(model, tmp_path, rows):
    with pytest.raises(OutOfBounds, match="npz"):
        answered(model, write(rows(5), tmp_path / "rows.csv"), tmp_path / "out.npz")


@pytest.mark.parametrize("spelling", ["rows.csv", "sub/../rows.csv", "link.csv", "hard.csv"])
def test_an_output_that_is_the_input_is_refused_and_the_input_stays(model, tmp_path, rows, spelling):
    path = write(rows(5), tmp_path / "rows.csv")
    before = path.read_bytes()
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.csv").symlink_to(path)
    (tmp_path / "hard.csv").hardlink_to(path)
    for source, output in ((path, tmp_path / spelling), (tmp_path / spelling, path)):
        with pytest.raises(UsageError, match="is what is read"):
            answered(model, source, output)
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["hard.csv", "link.csv", "rows.csv", "sub"]


def test_a_part_of_the_folder_that_is_read_is_no_output_nor_becomes_one(model, tmp_path, rows):
    path = write(rows(5), tmp_path / "a.csv")
    (tmp_path / "outside.csv").symlink_to(path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="is what is read"):
        answered(model, tmp_path, path)
    with pytest.raises(UsageError, match="part of the next time"):
        answered(model, tmp_path, tmp_path / "b.csv")
    assert path.read_bytes() == before
    assert answered(model, tmp_path, tmp_path / "b.parquet")[-1].rows == 10


@pytest.mark.parametrize(
    ("output", "words"), [("out.csv", "is a folder.*answers.csv"), ("nowhere/out.csv", "there is no folder")]
)
def test_a_place_where_no_file_can_be_is_noticed_before_any_work(model, tmp_path, rows, output, words):
    path = write(rows(5), tmp_path / "rows.csv")
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(SourceError, match=words):
        next(answer_file(*model, path, tmp_path / output))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out.csv", "rows.csv"]


def test_two_runs_do_not_write_one_output(model, tmp_path, rows):
    path = write(rows(500), tmp_path / "rows.csv")
    with Unfinished(tmp_path / "out.csv"), pytest.raises(WorkError, match="another run is writing it"):
        answered(model, path, tmp_path / "out.csv")


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv"])
def test_memory_does_not_grow_with_the_file(model, tmp_path, name, rows):
    part = rows(20_000)
    if name.endswith("csv"):
        part = part.append_column("said", [["what no model takes " * 20] * part.num_rows])
    large, times = tmp_path / name, 60 if name.endswith("parquet") else 8
    with (csv.CSVWriter if name.endswith("csv") else parquet.ParquetWriter)(str(large), part.schema) as writer:
        writer.write_table(pyarrow.concat_tables([part] * times).combine_chunks(), 10_000_000)
    small = write(part, tmp_path / f"small{large.suffix}")
    for label, data in (("graph", model[0]), ("signature", msgspec.json.encode(model[1]))):
        (tmp_path / label).write_bytes(data)
    command = [HERE / "peak.py", tmp_path / "graph", tmp_path / "signature", small, large, tmp_path / "out.csv"]
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=True)
    answered_rows, grown = map(int, done.stdout.split())
    assert answered_rows == 20_000 * times
    # All at once it would be 70 MB of text, or a table of 40 MB and its columns; what is in flight is a few blocks.
    assert grown < 20e6


@pytest.fixture
def slow_home(tmp_path, monkeypatch, table_model):
    home = tmp_path / "home"
    monkeypatch.setenv("MODELMILL_HOME", str(home))
    place = Home(home)
    onnx, signature = table_model(hidden=2000)
    Registry(place.database, place.blobs).publish("slow", {"model.onnx": onnx}, signature, promote=True)
    return home


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(slow_home, tmp_path, rows):
    path, output = write(rows(120_000), tmp_path / "rows.parquet"), tmp_path / "out.csv"
    command = [sys.executable, "-m", "modelmill.cli", "predict", "slow", "--input", str(path), "--output", str(output)]
    # Tests that run in a shell's background inherit that Ctrl-C is ignored.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    journal = tmp_path / ".out.csv.part.journal"
    deadline = time.monotonic() + 120
    while not (journal.exists() and journal.read_bytes().count(b"\n") > 2) and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert "the same command goes on" in said
    assert not output.exists()
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True, timeout=300)
    found = json.loads(done.stdout)
    assert "Goes on after" in done.stderr
    assert (found["rows"], 0 < found["resumed_rows"] < 120_000) == (120_000, True)
    assert found["rows_per_second"] > 0
    assert csv.read_csv(output).num_rows == 120_000
