"""What a teacher is worth: students that listen to one against the same students without, on rows that none has seen.

    python bench/compress/distill.py [--quick] [--seeds 0-4] [--fashion FOLDER] [--only METHOD,...] [--show]
    python bench/compress/distill.py --seeds 100-103 --only "nst,nst:weight=10" --on valid     # to choose a setting

A cell is a data set and a seed. A network is trained; then the same narrow network, from the same weights, for the same
epochs, with the same moved images, once on true labels alone (`distill.soft` with `share = 0`) and once by every method
that listens to the first. `METHOD:KEY=VALUE;KEY=VALUE` has other settings. What counts is the accuracy on test rows;
choices are made with seeds from 100 on, and on the validation rows. Rows are in `results/distill.jsonl`; what is there
is not run again. Sets: digits, and 6,000 rows of Fashion-MNIST from a folder of IDX files.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

RESULTS = Path(__file__).with_name("results") / "distill.jsonl"
ROWS = 6000
"""Rows of Fashion-MNIST that are learned from."""
SETS: dict[str, dict[str, Any]] = {
    "digits": {"arch": {"method": "cnn", "width": 16, "depth": 2}, "ratio": 0.2, "epochs": 40},
    "fashion": {"arch": {"method": "cnn", "width": 16, "depth": 3}, "ratio": 0.25, "epochs": 15},
}
METHODS = ("soft", "attention", "similarity", "nst", "parameters")
ALONE = "alone"

Row = dict[str, Any]


def cell(name: str, seed: int, wanted: list[str], folder: str) -> Iterator[Row]:
    """The accuracies of the network, of the student alone, and of the students that listen."""
    from modelmill.compress import chain
    from modelmill.method import decode

    given = SETS[name]
    model, data, task = network(name, seed, folder)
    for arm in wanted:
        method, _, other = arm.partition(":")
        table: Row = {"method": "distill.soft", "share": 0.0} if arm == ALONE else {"method": f"distill.{method}"}
        table |= {"ratio": given["ratio"], "epochs": given["epochs"], "shift": 1}
        table |= {key: float(value) for key, _, value in (each.partition("=") for each in other.split(";") if each)}
        started = time.process_time()
        found = model
        if arm != "teacher":
            found = list(
                chain.run(
                    [decode("compress", table)], model, data, task, lambda one: accuracy(one, data.valid, task), seed
                )
            )[-1].result
        yield {
            "set": name,
            "seed": seed,
            "arm": arm,
            "test": accuracy(found, data.test, task),
            "valid": accuracy(found, data.valid, task),
            "cpu_s": round(time.process_time() - started, 1),
        }


def network(name: str, seed: int, folder: str) -> Any:
    """A trained network, its data and its task."""
    from dataclasses import replace

    from modelmill.recipe.grow import train
    from modelmill.recipe.look import look
    from modelmill.spec import read

    data = {"method": "idx", "path": folder} if name == "fashion" else {"method": "builtin", "name": name}
    given = SETS[name]
    training = {"method": "adam", "learning_rate": 0.01, "schedule": "one_cycle", "epochs": given["epochs"], "shift": 1}
    goal = {"maximize": "accuracy", "budget": "1 trials"}
    job = look(read({"data": data, "goal": goal, "arch": given["arch"], "train": training, "seed": seed})).job
    splits = job.splits
    if splits.train.rows > ROWS:
        chosen = np.random.default_rng(seed).permutation(splits.train.rows)[:ROWS]
        splits = replace(splits, train=splits.train.take(chosen))
    steps = train(job, {"settings": {}, "seed": seed}, splits, 0.0)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value, splits, job.task


def accuracy(model: Any, rows: Any, task: Any) -> float:
    from modelmill.evaluate.judge import evaluate
    from modelmill.graph.export import export

    graph = model.body.value if model.body.kind == "graph" else export(model, task)
    return round(evaluate(graph, rows, model.signature, ["accuracy"], "test", seed=0)["accuracy"].value, 5)


def show(rows: list[Row], arms: list[str], on: str) -> None:
    """Means over seeds, and the gain over the student alone, pair by pair, with bootstrap intervals."""
    by = {(row["set"], row["seed"], row["arm"]): row[on] for row in rows if on in row}
    random = np.random.default_rng(0)
    for name in SETS:
        for arm in arms:
            seeds = sorted(s for n, s, a in by if n == name and a == arm and (n, s, ALONE) in by)
            if not seeds:
                continue
            values = np.array([by[name, seed, arm] for seed in seeds])
            gains = values - [by[name, seed, ALONE] for seed in seeds]
            drawn = gains[random.integers(0, len(gains), (4000, len(gains)))].mean(axis=1)
            low, high = np.quantile(drawn, [0.025, 0.975])
            print(
                f"{name:<9}{arm:<14}{values.mean():.4f}  gain {gains.mean():+.4f} [{low:+.4f}, {high:+.4f}]  "
                f"{len(seeds)} seeds, {on} rows"
            )


def main() -> None:
    """Run what is asked for and not there yet, and show it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="digits and one seed")
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--only", default=",".join(METHODS))
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--fashion", default="/usr/share/datasets/fashion-mnist", help="a folder of IDX files")
    parser.add_argument("--on", default="test", choices=("test", "valid"))
    parser.add_argument("--show", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    first, _, last = ("0" if arguments.quick else arguments.seeds).partition("-")
    seeds = range(int(first), int(last or first) + 1)
    arms = ["teacher", ALONE, *arguments.only.split(",")]
    RESULTS.parent.mkdir(exist_ok=True)
    rows: list[Row] = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    for seed in () if arguments.show else seeds:
        for name in ["digits"] if arguments.quick else arguments.sets.split(","):
            known = {row["arm"] for row in rows if (row["set"], row["seed"]) == (name, seed)}
            if wanted := [arm for arm in arms if arm not in known]:
                for row in cell(name, seed, wanted, arguments.fashion):
                    rows.append(row)
                    with RESULTS.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    print(row, flush=True)
    show([row for row in rows if row["seed"] in seeds], arms, arguments.on)


if __name__ == "__main__":
    main()
