"""Deep Compression: pruned, shared and entropy-coded LeNets on Fashion-MNIST, by the steps that users get.

    python bench/compress/deep.py FOLDER             # about 40 processor minutes; FOLDER holds the four IDX files
    python bench/compress/deep.py FOLDER --quick     # a seed, fewer rows and epochs: shows that it runs
    python bench/compress/deep.py --show             # the tables from the rows that are there

A cell is a network and a seed: the dense network is trained, then come `prune.weights`, `quantize.codebook` and the
stored form. Stored bytes are those of the packed file, which holds the whole ONNX graph with codebooks, masks, tables
of the entropy coder, names and preparation; accuracy is that of the graph which is opened from these very bytes. It
stands against the ONNX file of the dense network, all floats. Epochs are picked on 5,000 of the training rows, settings
on those of seed 100. Test rows of the seeds 0, 1 and 100 were seen while settings still changed, so that others are
judged: theirs are looked at once a cell. A cell is a line of `results/deep.jsonl`; one that is
there is not run again.

Han, Mao & Dally (2016), https://arxiv.org/abs/1510.00149, tables 1 and 4, on MNIST: 40x for LeNet-300-100, 39x for
LeNet-5.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "deep.jsonl"
SEEDS = (10, 11, 12)
VALID = 5000

DENSE = {
    "lenet_300_100": {"method": "adam", "epochs": 20, "learning_rate": 2e-3, "batch": 128},
    "lenet_5": {"method": "adam", "epochs": 8, "learning_rate": 2e-3, "batch": 128},
}
PRUNE = {"method": "prune.weights", "scope": "adaptive", "batch": 128, "teacher": 0.7}
CODE = {"method": "quantize.codebook", "bits": 4, "precision": 8, "batch": 128, "teacher": 0.7}
STEPS = {
    "lenet_300_100": (
        {**PRUNE, "ratio": 0.91, "epochs": 40, "learning_rate": 4e-3},
        {**CODE, "epochs": 5},
    ),
    "lenet_5": (
        {**PRUNE, "ratio": 0.905, "epochs": 12, "learning_rate": 2e-3},
        {**CODE, "epochs": 1},
    ),
}
QUICK = {"epochs": 2}

Row = dict[str, Any]


def network(name: str, seed: int) -> Any:
    """LeNet-300-100, or the LeNet-5 of Caffe with 431,080 weights, untrained."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    if name == "lenet_300_100":
        layers = [nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)]
        return nn.Sequential(nn.Flatten(), *layers)
    maps = [nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*maps, nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10))


def job_of(folder: str) -> Any:
    from modelmill.recipe.look import look
    from modelmill.spec import read

    spec = {"data": {"method": "idx", "path": folder}, "arch": {"method": "mlp"}, "train": {"method": "adam"}}
    return look(read({**spec, "compress": []})).job


def rows_of(job: Any, seed: int, quick: bool) -> Any:
    """The stated test rows as they are; of the others so many by chance to pick epochs on, and the rest to learn."""
    from modelmill.dataset import Splits, concat

    both = concat(job.splits.train, job.splits.valid)
    order = np.random.default_rng(seed).permutation(both.rows)[: 8000 if quick else both.rows]
    train, valid = np.sort(order[VALID:]), np.sort(order[:VALID])
    return Splits(both.take(train), both.take(valid), job.splits.test, job.splits.digest)


def untrained(job: Any, name: str, seed: int) -> Any:
    from modelmill.recipe.grow import picked_spec
    from modelmill.recipe.grow import untrained as made

    return made(job, picked_spec(job, {}), job.splits.train, seed).with_body(network(name, seed), "network", "")


def cell(job: Any, name: str, seed: int, quick: bool) -> Row:
    from modelmill.compress import chain
    from modelmill.graph.export import export
    from modelmill.method import decode
    from modelmill.store.packing.packed import pack, unpack

    short = QUICK if quick else {}
    data, started = rows_of(job, seed, quick), time.process_time()
    trainer = decode("train", {**DENSE[name], **short})
    dense = _last(trainer(untrained(job, name, seed), data, job.task, _unjudged, seed))
    trained = time.process_time()
    steps = [decode("compress", {**step, **short}) for step in STEPS[name]]
    small = _last(chain.run(steps, dense, data, job.task, _unjudged, seed))
    plain, packed = export(dense, job.task), pack(small.body.value)
    opened = unpack(packed)
    assert opened == small.body.value
    return {
        "network": name,
        "seed": seed,
        "dense_bytes": len(plain),
        "served_bytes": len(opened),
        "stored_bytes": len(packed),
        "dense": _accuracies(plain, data, job),
        "stored": _accuracies(opened, data, job),
        "dense_cpu_seconds": round(trained - started, 1),
        "compress_cpu_seconds": round(time.process_time() - trained, 1),
        "steps": STEPS[name],
    }


def _unjudged(model: Any) -> float:
    return float("nan")


def _last(found: Any) -> Any:
    for progress in found:
        last = progress
    return last.result


def _accuracies(graph: bytes, data: Any, job: Any) -> dict[str, float]:
    from modelmill.evaluate.judge import predict
    from modelmill.metrics.score import score

    parts = {"valid": data.valid, "test": data.test}
    return {
        part: score(["accuracy"], predict(graph, rows), rows.target, job.signature.classes)["accuracy"]
        for part, rows in parts.items()
    }


def run(folder: str, results: Path, names: list[str], seeds: list[int], quick: bool) -> None:
    import torch

    torch.set_num_threads(1)
    known = {(row["network"], row["seed"]) for row in read(results)}
    left = [(name, seed) for name in names for seed in seeds if (name, seed) not in known]
    job = job_of(folder) if left else None
    for name, seed in left:
        row = cell(job, name, seed, quick)
        results.parent.mkdir(parents=True, exist_ok=True)
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(_line(name, [row]), flush=True)


def read(results: Path) -> list[Row]:
    return [json.loads(line) for line in results.read_text("utf-8").splitlines()] if results.exists() else []


def _line(name: str, rows: list[Row]) -> str:
    dense = [100 * row["dense"]["test"] for row in rows]
    lost = [100 * (row["dense"]["test"] - row["stored"]["test"]) for row in rows]
    sizes = [np.mean([row[f"{kind}_bytes"] for row in rows]) for kind in ("dense", "served", "stored")]
    times = sizes[0] / sizes[2]
    spread = f" ({min(lost):+.2f} to {max(lost):+.2f})" if len(rows) > 1 else ""
    return (
        f"| {name} | {len(rows)} | {np.mean(dense):.2f} | {np.mean(dense) - np.mean(lost):.2f} "
        f"| {np.mean(lost):+.2f}{spread} | {sizes[0]:,.0f} | {sizes[1]:,.0f} | {sizes[2]:,.0f} | {times:.1f}x |"
    )


def show(results: Path) -> None:
    rows = read(results)
    print("| network | seeds | dense, % | stored, % | points lost (range) | dense bytes | served | stored | smaller |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(row["network"] for row in rows):
        print(_line(name, [row for row in rows if row["network"] == name]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", help="where the IDX files of Fashion-MNIST are")
    parser.add_argument("--quick", action="store_true", help="a seed, fewer rows and epochs; nothing is kept")
    parser.add_argument("--show", action="store_true", help="print the tables of what is there")
    parser.add_argument("--network", choices=list(DENSE), action="append", help="only this one")
    parser.add_argument("--seed", type=int, action="append", help="only this one; 100 is for tuning")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    results = Path(os.devnull) if given.quick else given.results
    if not given.show:
        if not given.folder:
            parser.error("name the folder of the IDX files")
        seeds = given.seed or (list(SEEDS[:1]) if given.quick else list(SEEDS))
        run(given.folder, results, given.network or list(DENSE), seeds, given.quick)
    if not given.quick:
        show(results)


if __name__ == "__main__":
    main()
