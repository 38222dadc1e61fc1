"""Answering a file: `modelmill predict` beside a plain loop of pyarrow and onnxruntime, in rows a second and in memory.

    python bench/serve/batch_file.py [--quick] [--rows 2000000] [--rounds 3] [--show]

The plain loop is what one writes by hand: read a batch of 65,536 rows, hand its columns to a session of one thread,
write the answers; no checks, no resuming, one core. Both read and write the same files, and take turns; the answers are
compared before anything is timed. A row of results/batch_file.jsonl is one process: rows a second while it answers,
seconds of processor in all (start and end among them), and the largest resident memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "batch_file.jsonl"
COLUMNS = 8
MODELS = {"tiny": 32, "wide": 512}
"""Hidden units; `wide` has a second layer of as many."""

PLAIN = """
import json, sys, time
import numpy as np, onnxruntime, pyarrow as pa
from pyarrow import csv, parquet
model, source, output = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
names = [each.name for each in session.get_inputs()]
began = time.perf_counter()
if source.endswith("csv"):
    batches = csv.open_csv(source)
else:
    batches = parquet.ParquetFile(source).iter_batches(65_536, columns=names)
writer, rows = None, 0
for batch in batches:
    given = {name: batch.column(name).to_numpy(zero_copy_only=False).astype(np.float32) for name in names}
    label, probabilities = session.run(None, given)
    columns = {f"probability_{i}": probabilities[:, i] for i in range(probabilities.shape[1])}
    table = pa.table({"label": label, **columns})
    if writer is None:
        kind = csv.CSVWriter if output.endswith("csv") else parquet.ParquetWriter
        writer = kind(output, table.schema)
    writer.write_table(table)
    rows += len(label)
writer.close()
seconds = time.perf_counter() - began
print(json.dumps({"rows": rows, "seconds": seconds, "rows_per_second": rows / seconds}))
"""

SAME = """
import sys
from pyarrow import csv, parquet
folder, suffix, rows = sys.argv[1:]
read = csv.read_csv if suffix == ".csv" else parquet.read_table
ours, plain = (read(f"{folder}/{who}{suffix}")["label"].combine_chunks() for who in ("modelmill", "plain"))
assert len(ours) == int(rows) and ours.equals(plain), "the two give different labels"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="200,000 rows, one round; nothing is kept")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--show", action="store_true", help="only show what was measured")
    chosen = parser.parse_args()
    if chosen.show:
        show([json.loads(line) for line in RESULTS.read_text().splitlines()])
        return
    if chosen.make is not None:
        make(chosen.make, chosen.rows)
        return
    rows, rounds = (200_000, 1) if chosen.quick else (chosen.rows, chosen.rounds)
    with tempfile.TemporaryDirectory() as name:
        found = measured(Path(name), rows, rounds)
    show(found)
    if not chosen.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in found))


def measured(folder: Path, rows: int, rounds: int) -> list[dict[str, Any]]:
    """Every case, the two taking turns."""
    os.environ["MODELMILL_HOME"] = str(folder / "home")
    # In a process of its own: what a child inherits of a large parent would count as its memory.
    subprocess.run([sys.executable, __file__, "--make", str(folder), "--rows", str(rows)], check=True)
    found = []
    for source in (folder / "in.parquet", folder / "in.csv"):
        for name in MODELS:
            output = folder / f"out{source.suffix}"
            commands = {
                "modelmill": [sys.executable, "-m", "modelmill.cli", "predict", name, "--input", str(source), "--json"],
                "plain": [sys.executable, "-c", PLAIN, str(folder / f"{name}.onnx"), str(source)],
            }
            commands["modelmill"] += ["--quiet", "--output", str(output)]
            commands["plain"] += [str(output)]
            for number in range(rounds):
                for who, command in commands.items():
                    output.unlink(missing_ok=True)
                    row = run(command)
                    size = {"file_mb": round(source.stat().st_size / 1e6), "cores": len(os.sched_getaffinity(0))}
                    found.append({"file": source.suffix[1:], "model": name, "who": who, "round": number, **size, **row})
                    print(found[-1], flush=True)
                    if not number:
                        output.rename(folder / f"{who}{output.suffix}")
                if not number:
                    compare = [sys.executable, "-c", SAME, str(folder), output.suffix, str(rows)]
                    subprocess.run(compare, check=True)
    return found


def run(command: list[str]) -> dict[str, Any]:
    """One process: what it says, and what it took."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None, "it is piped"
    said = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return {
        "rows": said["rows"],
        "seconds": round(said["seconds"], 2),
        "rows_per_second": round(said["rows_per_second"]),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(usage.ru_maxrss / 1000),
    }


def make(folder: Path, rows: int) -> None:
    """The same rows as Parquet, in one row group, and as CSV; and the models."""
    import pyarrow
    from pyarrow import csv, parquet

    rng = np.random.default_rng(0)
    columns = {f"c{i}": rng.normal(size=rows).astype(np.float32) for i in range(COLUMNS)}
    table = pyarrow.table({"id": np.arange(rows), **columns})
    parquet.write_table(table, folder / "in.parquet", row_group_size=rows)
    csv.write_csv(table, folder / "in.csv")
    for name, hidden in MODELS.items():
        publish(folder, name, hidden)


def publish(folder: Path, name: str, hidden: int) -> None:
    """A network of a table with a class, as a build would publish it; and its file beside the others."""
    from modelmill.api import registry
    from modelmill.fragment import Writer
    from modelmill.graph.build import to_onnx
    from modelmill.signature import Field, Signature

    rng = np.random.default_rng(1)
    fields = tuple(Field(f"c{i}", "FP32", nullable=True) for i in range(COLUMNS))
    writer = Writer()
    axis = writer.constant(np.array([1], np.int64))
    value = writer.op("Concat", [writer.op("Unsqueeze", [field.name, axis]) for field in fields], {"axis": 1})
    widths = [COLUMNS, hidden, *([hidden] if hidden > 100 else []), 3]
    for before, after in pairwise(widths):
        weights = rng.normal(size=(before, after)).astype(np.float32) / np.float32(np.sqrt(before))
        value = writer.op("MatMul", [value, writer.constant(weights)])
        value = writer.op("Relu", [value]) if after != 3 else value
    probabilities = writer.op("Softmax", [value], {"axis": 1})
    best = writer.op("ArgMax", [probabilities], {"axis": 1, "keepdims": 0})
    writer.rename(writer.op("Gather", [writer.constant(np.arange(3)), best]), "label")
    writer.rename(probabilities, "probabilities")
    outputs = (Field("label", "INT64"), Field("probabilities", "FP32", (-1, 3)))
    onnx = to_onnx(writer.fragment(), fields, outputs)
    (folder / f"{name}.onnx").write_bytes(onnx)
    registry().publish(name, {"model.onnx": onnx}, Signature("classify", fields, outputs, (0, 1, 2)), promote=True)


def show(rows: list[dict[str, Any]]) -> None:
    """Medians over rounds, side by side."""
    print(f"{'file':<8} {'model':<6} {'who':<10} {'rows/s':>10} {'cpu s':>7} {'peak MB':>8} {'file MB':>8}")
    for key in dict.fromkeys((row["file"], row["model"], row["who"]) for row in rows):
        mine = [row for row in rows if (row["file"], row["model"], row["who"]) == key]
        pace, cpu, peak = (median(row[name] for row in mine) for name in ("rows_per_second", "cpu_s", "peak_mb"))
        print(f"{key[0]:<8} {key[1]:<6} {key[2]:<10} {pace:>10,.0f} {cpu:>7.1f} {peak:>8.0f} {mine[0]['file_mb']:>8}")


if __name__ == "__main__":
    main()
