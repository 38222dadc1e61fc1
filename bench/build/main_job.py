"""What the main job reaches: quality, limits and time of whole builds, scored on rows that no search saw.

    python bench/build/main_job.py iris digits tables fashion csv [--quick] [--results FILE]

Every cell (a set and a split) is one line of the results file; a cell that is there is not run again. Splits are cut
here, outside of modelmill, and given to it as files; answers are asked of a running service, or of `predict` where the
test set is large.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
MODELMILL = str(Path(sys.executable).with_name("modelmill"))
FASHION = "/usr/share/datasets/fashion-mnist"


def main() -> None:
    """Run the cells that are asked for and are not there yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["iris", "digits", "tables", "csv"])
    parser.add_argument("--quick", action="store_true", help="one split of each, and a tenth of the budget")
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    parser.add_argument("--fashion", default=FASHION, help="folder of Fashion-MNIST's IDX files")
    arguments = parser.parse_args()
    known = (
        [json.loads(line) for line in arguments.results.read_text().splitlines()] if arguments.results.exists() else []
    )
    done = {row["cell"] for row in known}
    for cell, run in cells(arguments):
        name = cell + (" quick" if arguments.quick else "")
        if name in done:
            continue
        with tempfile.TemporaryDirectory() as folder:
            row = {"cell": name, "at": time.strftime("%Y-%m-%d %H:%M"), **run(Path(folder))}
        print(json.dumps(row), flush=True)
        with arguments.results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        known.append(row)
    summarize(known)


def cells(arguments: argparse.Namespace) -> Iterator[tuple[str, Callable[[Path], dict[str, Any]]]]:
    """Names of cells and what runs them."""
    few = arguments.quick

    def budget(text: str) -> str:
        return f"{max(5, int(text.removesuffix('s')) // 10)}s" if few else text

    if "iris" in arguments.what:
        for split in range(1 if few else 5):
            yield f"iris {split}", lambda folder, split=split: served(folder, "iris", split, [], budget("10s"))
    if "digits" in arguments.what:
        limits = ["--maximize", "accuracy", "--limit", "latency_ms=1", "--limit", "size_kb=50"]
        for split in range(1 if few else 3):
            yield f"digits {split}", lambda folder, split=split: served(folder, "digits", split, limits, budget("60s"))
    if "tables" in arguments.what:
        for name in ("wine", "breast_cancer", "diabetes"):
            for split in range(1 if few else 10):
                yield (
                    f"{name} {split}",
                    lambda folder, name=name, split=split: against_peers(folder, name, split, budget("30s")),
                )
    if "fashion" in arguments.what:
        yield "fashion", lambda folder: fashion(folder, arguments.fashion, budget("900s"))
    if "csv" in arguments.what:
        yield "csv", lambda folder: large_csv(folder, budget("60s"))


def load(name: str) -> tuple[Any, Any, Any]:
    """A built-in set: x, y as they are to be written to a file, and whether it is regression."""
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    if name == "digits":
        return bunch.images.astype(np.float32), bunch.target.astype(np.int64), bunch
    if name == "diabetes":
        return bunch.data, bunch.target, bunch
    return bunch.data, np.array(bunch.target_names)[bunch.target], bunch


def cut(y: Any, split: int, stratify: bool = True) -> tuple[Any, Any]:
    """A repeated split, four fifths to build with and one fifth to test on."""
    from sklearn.model_selection import train_test_split

    return train_test_split(np.arange(len(y)), test_size=0.2, random_state=split, stratify=y if stratify else None)


def write(folder: Path, name: str, split: int) -> tuple[Path, Path, Any, Any]:
    """Train and test files of a split; the test rows and the truth."""
    x, y, bunch = load(name)
    build, test = cut(y, split, name != "diabetes")
    paths = []
    for part, index in (("train", build), ("test", test)):
        if x.ndim == 3:
            path = folder / f"{part}.npz"
            np.savez(path, x=x[index], y=y[index])
        else:
            path = folder / f"{part}.csv"
            header = ",".join([*(f'"{key}"' for key in bunch.feature_names), "target"])
            lines = [
                ",".join([*map(repr, map(float, row)), str(label)])
                for row, label in zip(x[index], y[index], strict=True)
            ]
            path.write_text("\n".join([header, *lines]) + "\n")
        paths.append(path)
    return paths[0], paths[1], x[test], y[test]


def build(folder: Path, arguments: list[str]) -> dict[str, Any]:
    """Run `modelmill build` in a home of its own; its report, with the wall time of the whole process."""
    environment = {**os.environ, "MODELMILL_HOME": str(folder / "home")}
    started = time.monotonic()
    done = subprocess.run(
        [MODELMILL, "build", *arguments, "--json"], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"build {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return {**json.loads(done.stdout), "wall_s": time.monotonic() - started}


def served(folder: Path, name: str, split: int, flags: list[str], budget: str) -> dict[str, Any]:
    """Build with a stated test set, serve, and score what the service answers."""
    train, test, x, y = write(folder, name, split)
    started = time.monotonic()
    report = build(
        folder,
        [
            str(train),
            "--test",
            str(test),
            "--name",
            name,
            "--target",
            "target" if train.suffix == ".csv" else "",
            "--seed",
            str(split),
            "--budget",
            budget,
            *flags,
        ],
    )
    answers, first_s = ask(folder, name, x, started)
    truth = y.tolist()
    return {
        "accuracy": float(np.mean([answer["label"] == label for answer, label in zip(answers, truth, strict=True)])),
        "start_to_answer_s": round(first_s, 2),
        "wall_s": round(report["wall_s"], 2),
        "kept": all(limit["kept"] for limit in report["limits"].values()),
        **figures(report),
    }


def figures(report: dict[str, Any]) -> dict[str, Any]:
    """The figures of a report that belong in every row."""
    return {
        "latency_ms": report["costs"]["latency_ms"],
        "size_kb": report["costs"]["size_bytes"] / 1000,
        "trials": report["trials"],
        "arch": report["details"]["trials"][0]["settings"].get("arch") and winner(report).get("arch"),
    }


def winner(report: dict[str, Any]) -> dict[str, Any]:
    """The settings of the winner."""
    number = report["details"]["winner"]
    return next(trial["settings"] for trial in report["details"]["trials"] if trial["number"] == number)


def ask(folder: Path, name: str, x: Any, started: float) -> tuple[list[dict[str, Any]], float]:
    """Predictions of a running service for all rows, and when the first answer came."""
    environment = {**os.environ, "MODELMILL_HOME": str(folder / "home")}
    service = subprocess.Popen(
        [MODELMILL, "serve", name, "--port", "0"], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        url = next(line.split()[2] for line in service.stderr if "modelmill serves" in line)
        rows = [[row.tolist()] if row.ndim == 2 else row.tolist() for row in x]
        post(f"{url}/predict/{name}", rows[:1])
        first_s = time.monotonic() - started
        return post(f"{url}/predict/{name}", rows)["predictions"], first_s
    finally:
        service.terminate()
        service.wait(10)


def post(url: str, body: Any) -> Any:
    """The JSON answer to a JSON request."""
    request = urllib.request.Request(
        url.replace("//", "//").rstrip("/"), json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def against_peers(folder: Path, name: str, split: int, budget: str) -> dict[str, Any]:
    """Build for a table, and scikit-learn's defaults on the same rows."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.metrics import accuracy_score, r2_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    regress = name == "diabetes"
    x, y, _ = load(name)
    train, test = cut(y, split, not regress)
    score = r2_score if regress else accuracy_score
    peers = {
        "boosting": HistGradientBoostingRegressor() if regress else HistGradientBoostingClassifier(),
        "linear": make_pipeline(StandardScaler(), Ridge() if regress else LogisticRegression(max_iter=2000)),
    }
    row = {key: float(score(y[test], peer.fit(x[train], y[train]).predict(x[test]))) for key, peer in peers.items()}
    train_file, test_file, rows, truth = write(folder, name, split)
    report = build(
        folder,
        [
            str(train_file),
            "--test",
            str(test_file),
            "--name",
            name,
            "--target",
            "target",
            "--seed",
            str(split),
            "--budget",
            budget,
        ],
    )
    answers, _ = ask(folder, name, rows, time.monotonic())
    key = "value" if regress else "label"
    return {
        "modelmill": float(score(truth, [answer[key] for answer in answers])),
        **row,
        "wall_s": round(report["wall_s"], 2),
        **figures(report),
    }


def fashion(folder: Path, source: str, budget: str) -> dict[str, Any]:
    """Fashion-MNIST from its IDX files, on its own test images."""
    report = build(
        folder, [source, "--name", "fashion", "--limit", "size_kb=100", "--limit", "latency_ms=0.5", "--budget", budget]
    )
    return {
        "accuracy": report["metrics"]["accuracy"]["value"],
        "split": report["metrics"]["accuracy"]["split"],
        "kept": all(limit["kept"] for limit in report["limits"].values()),
        "wall_s": round(report["wall_s"], 1),
        "settings": winner(report),
        **figures(report),
    }


def large_csv(folder: Path, budget: str) -> dict[str, Any]:
    """100,000 rows of 30 columns with words, gaps and dates; the memory of the whole process tree."""
    import psutil

    path = folder / "orders.csv"
    orders(path, 100_000)
    environment = {**os.environ, "MODELMILL_HOME": str(folder / "home")}
    process = subprocess.Popen(
        [MODELMILL, "build", str(path), "--target", "returned", "--budget", budget, "--json"],
        env=environment,
        stdout=(folder / "report.json").open("w"),
        stderr=subprocess.DEVNULL,
        text=True,
    )
    peak, started = 0, time.monotonic()
    tree = psutil.Process(process.pid)
    while process.poll() is None:
        peak = max(peak, memory(tree))
        time.sleep(0.2)
    report = json.loads((folder / "report.json").read_text())
    return {
        "peak_gb": round(peak / 1e9, 2),
        "wall_s": round(time.monotonic() - started, 1),
        "metrics": {key: value["value"] for key, value in report["metrics"].items()},
        **figures(report),
    }


def memory(tree: Any) -> int:
    """Resident bytes of a process and all below it; what processes share counts for each."""
    import psutil

    total = 0
    for process in [tree, *tree.children(recursive=True)]:
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total


def orders(path: Path, rows: int) -> None:
    """Write orders of a shop: what was bought, by whom, when and how, and whether it came back."""
    import pyarrow as pa
    import pyarrow.csv

    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {}
    columns["ordered"] = np.datetime64("2022-01-01T00:00:00") + rng.integers(0, 3 * 365 * 86400, rows).astype(
        "timedelta64[s]"
    )
    columns["birthday"] = np.datetime64("1940-01-01") + rng.integers(0, 24000, rows).astype("timedelta64[D]")
    words = {
        "country": 40,
        "city": 300,
        "product": 120,
        "category": 12,
        "carrier": 5,
        "payment": 6,
        "channel": 4,
        "color": 15,
        "size": 8,
    }
    effects = np.zeros(rows)
    for name, count in words.items():
        code = np.minimum(rng.zipf(1.4, rows) - 1, count - 1)
        values = np.array([f"{name}-{i:03d}" for i in range(count)], dtype=object)[code]
        values[rng.random(rows) < 0.03] = ""
        columns[name] = values
        effects += rng.normal(0, 0.4, count)[code]
    for i in range(17):
        value = rng.lognormal(2, 1, rows) if i % 3 else rng.normal(0, 1, rows)
        effects += (0.3 if i < 6 else 0.0) * (np.tanh(value - np.median(value)))
        value[rng.random(rows) < 0.05 * (i % 4 == 0)] = np.nan
        columns[f"number_{i:02d}"] = value.round(3)
    columns["express"] = rng.random(rows) < 0.3
    columns["returned"] = np.where(effects + rng.logistic(0, 1, rows) > 1, "yes", "no")
    table = pa.table({k: pa.array(v, from_pandas=True) for k, v in columns.items()})
    assert table.num_columns == 30, table.num_columns
    pyarrow.csv.write_csv(table, path)


def summarize(rows: list[dict[str, Any]]) -> None:
    """Print means over splits."""
    print(f"\npeak memory of this script: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:.0f} MB")
    for name in dict.fromkeys(row["cell"].split()[0] for row in rows):
        mine = [row for row in rows if row["cell"].split()[0] == name]
        keys = [key for key in mine[0] if isinstance(mine[0][key], int | float)]
        print(name, f"({len(mine)} cells)", {key: round(float(np.mean([row[key] for row in mine])), 4) for key in keys})


if __name__ == "__main__":
    main()
