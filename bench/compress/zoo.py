"""What `modelmill compress` does to fifteen models of every family, with its default recipe and nothing said.

    python bench/compress/zoo.py [--quick] [--seeds 0] [--only NAME,...] [--trials 16] [--fashion FOLDER] [--show]

Each model is built with its one architecture and published, then compressed with a small budget of trials. The version
and its child, or the version again where it stays, are measured in one interleaved run on the test rows, on one thread.
Counted are: models that became slower (the interval of the ratio lies above 1), models that lost more than 1 % of their
quality on the test rows, models of which a step was taken, and the geometric means over all fifteen of speed and size.
Rows are in `results/zoo.jsonl`; a model and seed that is there is not run again. `--quick`: four models, six trials,
rows of its own. Sets: built-in ones, and 4,000 rows of Fashion-MNIST from a folder of IDX files, with its 10,000 test
rows; seeds from 100 on, by which settings are chosen, are scored on 10,000 of its other training rows instead.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

RESULTS = Path(__file__).with_name("results") / "zoo.jsonl"
ROWS = 4000
"""Rows of Fashion-MNIST that are learned from."""
CHOOSING = 100
"""Seeds from here on judge nothing."""
MOST_LOSS = 0.01
"""The share of a quality that may be lost, on the test rows."""
Row = dict[str, Any]

CNN = {"method": "cnn", "width": 32, "depth": 2}
RESIDUAL = {**CNN, "residual": True, "head": "average"}
ZOO: dict[str, tuple[str, Row]] = {
    "mlp, digits": ("digits", {"method": "mlp", "width": 256, "depth": 2}),
    "mlp, fashion": ("fashion", {"method": "mlp", "width": 512, "depth": 2}),
    "mlp, breast_cancer": ("breast_cancer", {"method": "mlp", "width": 128, "depth": 2}),
    "cnn, digits": ("digits", CNN),
    "cnn, fashion": ("fashion", CNN),
    "residual cnn, digits": ("digits", RESIDUAL),
    "residual cnn, fashion": ("fashion", RESIDUAL),
    "depthwise cnn, digits": ("digits", {"method": "depthwise", "width": 32, "depth": 2, "blocks": 1}),
    "squeeze-excite cnn, digits": ("digits", {"method": "depthwise", "width": 32, "depth": 2, "squeeze": 0.25}),
    "gru, digits": ("digits", {"method": "rnn", "unit": "gru", "width": 128}),
    "transformer, digits": ("digits", {"method": "transformer", "width": 64, "depth": 2, "patch": 2}),
    "forest, digits": ("digits", {"method": "forest", "trees": 300, "depth": 12}),
    "forest, diabetes": ("diabetes", {"method": "forest", "trees": 300, "depth": 8}),
    "boosting, breast_cancer": ("breast_cancer", {"method": "boosting", "iterations": 300}),
    "boosting, diabetes": ("diabetes", {"method": "boosting", "iterations": 300, "learning_rate": 0.05}),
}
"""Widths and numbers of trees that are usual in print and in examples of libraries: of a smaller network a call is
mostly the runtime's own cost, as the first zoo showed (widths of 16 and 128, 100 trees; `results/zoo_small.jsonl`)."""
QUICK = ("mlp, digits", "cnn, digits", "forest, digits", "boosting, diabetes")


def cell(name: str, seed: int, trials: int, folder: str) -> Row:
    """One model before and after."""
    from modelmill.api import compress_model, load
    from modelmill.evaluate.judge import evaluate, measure
    from modelmill.mill import build
    from modelmill.recipe.look import look
    from modelmill.report import Report
    from modelmill.spec import read
    from modelmill.store.home import Home

    data, arch = ZOO[name]
    metric = "rmse" if data == "diabetes" else "accuracy"
    with tempfile.TemporaryDirectory() as place:
        source: Row = {"method": "builtin", "name": data}
        if data == "fashion":
            source = {"method": "npz", "path": part(folder, seed, Path(place))}
        way = "minimize" if metric == "rmse" else "maximize"
        spec: Row = {
            "name": "zoo",
            "data": source,
            "goal": {way: metric, "budget": "1 trials"},
            "seed": seed,
            "workers": 1,
            "arch": arch,
            "compress": [],
            "search": {"folds": 1},
        }
        home = Home(f"{place}/home")
        started = time.process_time()
        for step in build(spec, home):
            before = step if isinstance(step, Report) else None
        built_s = time.process_time() - started
        assert before is not None, "a build ends with a report"
        started = time.monotonic()
        after = compress_model(
            "zoo", budget=f"{trials} trials", seed=seed, settings={"home": f"{place}/home", "workers": 1}
        )
        wall_s = time.monotonic() - started
        one, two = (load(f"zoo@{number}", home) for number in (before.version, after.version))
        test = look(read(spec)).job.splits.test
        costs = measure([one.graph, two.graph], test, ["latency_ms", "size_bytes"], quick=False)
        quality = [
            evaluate(graph, test, one.version.signature, [metric], "test", seed=0)[metric].value
            for graph in (one.graph, two.graph)
        ]
        ratios = measure([two.graph, one.graph], test, ["latency_ms"], quick=False)[0]
    return {
        "model": name,
        "seed": seed,
        "trials": trials,
        "metric": metric,
        "quality": [round(value, 5) for value in quality],
        "size_bytes": [int(cost["size_bytes"]) for cost in costs],
        "stored_bytes": [report.costs.get("stored_bytes") for report in (before, after)],
        "latency_ms": [round(cost["latency_ms"], 5) for cost in costs],
        "latency_ratio": [round(ratios[f"latency_ratio{end}"], 4) for end in ("", "_low", "_high")],
        "steps": [step["step"] for step in after.details.get("steps", []) if step["kept"]],
        "child": after.version != before.version,
        "wall_s": round(wall_s, 1),
        "built_cpu_s": round(built_s, 1),
    }


def part(folder: str, seed: int, place: Path) -> str:
    """A file of some rows of Fashion-MNIST, and the rows to score by."""
    from modelmill.data.read import read

    whole = read({"method": "idx", "path": folder})
    order = np.random.default_rng(seed).permutation(whole.rows)
    values, taught = next(iter(whole.columns.values())), whole.target
    assert taught is not None, "Fashion-MNIST is labelled"
    chosen, others = order[:ROWS], order[ROWS : ROWS + 10_000]
    tests, told = values[others], taught[others]
    if seed < CHOOSING:
        assert whole.test is not None, "Fashion-MNIST has its own test rows"
        tests, told = next(iter(whole.test.columns.values())), whole.test.target
    np.savez(place / "fashion.npz", x=values[chosen], y=taught[chosen], x_test=tests, y_test=told)
    return str(place / "fashion.npz")


def lost(row: Row) -> float:
    """The share of the quality that was lost on the test rows; below 0 where it was won."""
    before, after = row["quality"]
    return (after - before) / before if row["metric"] == "rmse" else (before - after) / before


def show(rows: list[Row]) -> None:
    """A line a model, and what is counted."""
    for row in rows:
        ratio, low, high = row["latency_ratio"]
        print(
            f"{row['model']:<28}{row['seed']:>2}  {row['metric']} {row['quality'][0]:.4f} -> {row['quality'][1]:.4f}  "
            f"{row['size_bytes'][0] / row['size_bytes'][1]:5.2f}x smaller  {1 / ratio:5.2f}x faster "
            f"[{1 / high:.2f}, {1 / low:.2f}]  {', '.join(row['steps']) or 'stays'}"
        )
    if not rows:
        return
    faster = np.exp(np.mean([-np.log(row["latency_ratio"][0]) for row in rows]))
    smaller = np.exp(np.mean([np.log(row["size_bytes"][0] / row["size_bytes"][1]) for row in rows]))
    slower = sum(row["latency_ratio"][1] > 1 for row in rows)
    worse = sum(lost(row) > MOST_LOSS for row in rows)
    taken = sum(row["child"] for row in rows)
    print(
        f"{len(rows)} rows: slower {slower}, more than {MOST_LOSS:.0%} worse {worse}, compressed {taken}; geometric "
        f"means: {faster:.2f}x faster, {smaller:.2f}x smaller"
    )


def main() -> None:
    """Run what is asked for and not there yet, and show it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", default="0", help="0 to 9 judge; those from 100 on are for choosing")
    parser.add_argument("--only", default="", help="models, with semicolons")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--fashion", default="/usr/share/datasets/fashion-mnist", help="a folder of IDX files")
    parser.add_argument("--show", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    results = RESULTS.with_name("quick") / RESULTS.name if arguments.quick else RESULTS
    results.parent.mkdir(parents=True, exist_ok=True)
    trials = 6 if arguments.quick else arguments.trials
    rows: list[Row] = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    names = [name.strip() for name in arguments.only.split(";") if name] or list(QUICK if arguments.quick else ZOO)
    first, _, last = arguments.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    for seed in () if arguments.show else seeds:
        for name in names:
            if any((row["model"], row["seed"], row["trials"]) == (name, seed, trials) for row in rows):
                continue
            row = cell(name, seed, trials, arguments.fashion)
            rows.append(row)
            with results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(name, row["wall_s"], flush=True)
    show([row for row in rows if row["trials"] == trials and row["seed"] in seeds])


if __name__ == "__main__":
    main()
