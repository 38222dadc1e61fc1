"""A residual CNN with whole channels cut: how much faster at what loss, beside torch-pruning's cut of the same network.

    python bench/compress/structured.py FOLDER [--quick] [--seeds 0-2] [--show]

A cell is a seed and an arm. ResNet-20 (three stages of three blocks, 16 to 64 channels) learns from 10,000 rows of
Fashion-MNIST in a FOLDER of IDX files; then every arm cuts the share RATIO of its channels and trains what is left
again, all by the same recipe and teacher, for as many epochs in all. `METHOD:RATIO:MULTIPLE` is `prune.METHOD`, its
channels in such multiples, and `+` joins steps, of which each but the last trains for a quarter of the epochs;
`peer:RATIO` is torch-pruning as its README says (`GroupMagnitudeImportance(p=2)`, `BasePruner`, `round_to=8`), in an
environment of its own (`peers.txt`).
Both are written by the same exporter, and their graphs are timed in turns in one run, on one thread, with the uncut
network as the baseline. What counts is the accuracy on the 10,000 test rows; `valid` is for choices. Rows are in
`results/structured.jsonl`; what is there is not run again. Graphs lie beside it, and are not kept in the repository:
without them a seed is made anew where it has to be timed.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))

from environments import environment

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

RESULTS = Path(__file__).with_name("results") / "structured.jsonl"
GRAPHS = RESULTS.with_name("structured")
ARCH = {"method": "cnn", "width": 16, "depth": 3, "blocks": 3, "growth": 2, "stride": 1, "residual": True}
ARCH |= {"head": "average"}
TRAIN = {"method": "adam", "learning_rate": 0.01, "schedule": "one_cycle", "batch": 128, "flip": True, "patience": 0}
ARMS = ("taylor:0.5:8", "taylor:0.75:16", "blocks:0.5+taylor:0.5:16", "peer:0.5", "peer:0.75")
SIZES = {False: {"rows": 10_000, "epochs": 15, "again": 8}, True: {"rows": 2_000, "epochs": 2, "again": 4}}
DENSE = "dense"

Row = dict[str, Any]


class Seed:
    """What the arms of one seed share: the data, and the trained network, which is kept on disk."""

    def __init__(self, folder: str, seed: int, quick: bool) -> None:
        from modelmill.recipe.look import look
        from modelmill.spec import read

        self.seed, self.sizes = seed, SIZES[quick]
        self.place = GRAPHS / f"{'quick-' if quick else ''}{seed}"
        self.place.mkdir(parents=True, exist_ok=True)
        data = {"method": "idx", "path": folder}
        goal = {"maximize": "accuracy", "budget": "1 trials"}
        table = {"data": data, "goal": goal, "arch": ARCH, "train": {**TRAIN, "epochs": self.sizes["epochs"]}}
        self.job = look(read(table)).job
        splits, random = self.job.splits, np.random.default_rng(seed)
        chosen = np.sort(random.permutation(splits.train.rows)[: self.sizes["rows"]])
        valid = splits.valid.take(np.arange(2000))
        self.splits = replace(splits, train=splits.train.take(chosen), valid=valid)

    def arm(self, name: str) -> Row:
        """Make an arm's graph; its figures but for time."""
        from modelmill.evaluate.costs.macs import count
        from modelmill.graph.export import export
        from modelmill.network.slicing import parameters

        started = time.process_time()
        model = self.dense() if name == DENSE else self.cut(name)
        graph = export(model, self.job.task)
        self.graph(name).write_bytes(graph)
        figures = {part: self.accuracy(graph, getattr(self.splits, part)) for part in ("valid", "test")}
        weights = parameters(model.body.value)
        spent = round(time.process_time() - started, 1)
        return {"seed": self.seed, "arm": name, **self.sizes, **figures, "weights": weights, "macs": count(graph)} | {
            "bytes": len(graph),
            "cpu_s": spent,
        }

    def graph(self, name: str) -> Path:
        """Where an arm's graph lies."""
        return self.place / f"{name.replace(':', '-').replace('+', '_')}.onnx"

    def accuracy(self, graph: bytes, rows: Any) -> float:
        """The share of rows that are answered right."""
        from modelmill.evaluate.judge import predict

        return round(float((predict(graph, rows)["label"] == rows.target).mean()), 5)

    def dense(self) -> Any:
        """The trained network, uncut."""
        import torch

        from modelmill.method import decode
        from modelmill.network.blocks import fill, named_weights
        from modelmill.recipe.grow import picked_spec, untrained

        path = self.place / "dense.pt"
        model = untrained(self.job, picked_spec(self.job, {}), self.splits.train, self.seed)
        if path.exists():
            fill(model.body.value, torch.load(path, weights_only=True))
            return replace(model, history=("train.adam: kept",))
        trainer = decode("train", {**TRAIN, "epochs": self.sizes["epochs"]})
        *_, last = trainer(model, self.splits, self.job.task, lambda one: 0.0, self.seed)
        torch.save({name: value.detach() for name, value in named_weights(last.result.body.value).items()}, path)
        return last.result

    def cut(self, name: str) -> Any:
        """The network with channels cut by an arm, and trained again."""
        from modelmill.compress.prune.magnitude import Magnitude
        from modelmill.method import decode

        again = {"learning_rate": 5e-3, "batch": 128}
        model, left = self.dense(), self.sizes["again"]
        steps = name.split("+")
        for step in steps:
            method, ratio, *multiple = step.split(":")
            epochs = left if step is steps[-1] else left // 4
            left -= epochs
            if method == "peer":
                cut = model.with_body(self.peer(model, float(ratio)), "network", "torch-pruning")
                made = Magnitude(epochs=epochs, **again).regained(model, cut, self.splits, self.job.task, self.seed)
            else:
                table = {"method": f"prune.{method}", "ratio": float(ratio), "epochs": epochs, **again}
                table |= {"multiple": int(multiple[0])} if multiple else {}
                made = decode("compress", table)(model, self.splits, self.job.task, lambda one: 0.0, self.seed)
            *_, last = made
            model = last.result
        return model

    def peer(self, dense: Any, ratio: float) -> Any:
        """The network as torch-pruning cuts it."""
        import torch

        from modelmill.network.slicing import shaped

        given, made = self.place / "dense.pt", self.place / "peer.pt"
        command = [
            str(environment("compress", HERE / "peers.txt")),
            str(Path(__file__)),
            "--cut",
            str(given),
            str(ratio),
            str(made),
        ]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        # The network as it was is still wanted: it teaches the cut one.
        return shaped(copy.deepcopy(dense.body.value), torch.load(made, weights_only=True))

    def timed(self, names: list[str]) -> list[Row]:
        """The milliseconds of graphs in turns, and their ratios to that of the uncut network."""
        from modelmill.evaluate.costs.latency import Latency

        order = [*(name for name in names if name != DENSE), DENSE]
        graphs = [self.graph(name).read_bytes() for name in order]
        found = Latency(seconds=3.0, blocks=30)(graphs, self.splits.test)
        return [{"seed": self.seed, "arm": name, "timed": True, **one} for name, one in zip(order, found, strict=True)]


def cut_by_peer(given: str, ratio: float, made: str) -> None:
    """Cut a network with torch-pruning, as its README says; runs in the peers' environment."""
    import torch
    import torch_pruning as tp

    from modelmill.arch.cnn import Cnn
    from modelmill.network.blocks import fill
    from modelmill.signature import Signature

    settings = {name: value for name, value in ARCH.items() if name != "method"}
    network = Cnn(**settings)(Signature("classify", (), (), tuple(range(10))), (1, 28, 28), 0).eval()
    fill(network, torch.load(given, weights_only=True))
    example = torch.zeros(1, 1, 28, 28)
    pruner = tp.pruner.BasePruner(
        network,
        example,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        ignored_layers=[network[-1]],
        round_to=8,
    )
    pruner.step()
    torch.save({name: value.detach().clone() for name, value in network.state_dict().items()}, made)


def show(rows: list[Row]) -> None:
    """Means over seeds: points lost against the uncut network, and how many times as fast."""
    quality = {(row["seed"], row["arm"]): row for row in rows if "test" in row}
    speed = {(row["seed"], row["arm"]): row for row in rows if row.get("timed")}
    for arm in dict.fromkeys(arm for _, arm in quality):
        seeds = [seed for seed, name in quality if name == arm and (seed, DENSE) in quality]
        lost = [100 * (quality[seed, DENSE]["test"] - quality[seed, arm]["test"]) for seed in seeds]
        each = [quality[seed, arm]["test"] for seed in seeds]
        times = [1 / speed[seed, arm]["latency_ratio"] for seed in seeds if (seed, arm) in speed]
        shown = f"{np.mean(times):.2f}x [{min(times):.2f}, {max(times):.2f}]" if times else "not timed"
        print(f"{arm:<12} test {np.mean(each):.4f}  lost {np.mean(lost):+.2f} points  {shown}  {len(seeds)} seeds")


def main() -> None:
    """Run what is asked for and not there yet, and show it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="a folder of IDX files")
    parser.add_argument("--quick", action="store_true", help="one seed, 2,000 rows, 2 epochs; nothing is written down")
    parser.add_argument("--seeds", default="0-2")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--show", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    first, _, last = ("0" if arguments.quick else arguments.seeds).partition("-")
    seeds = range(int(first), int(last or first) + 1)
    kept = RESULTS.exists() and not arguments.quick
    rows: list[Row] = [json.loads(line) for line in RESULTS.read_text().splitlines()] if kept else []
    for seed in () if arguments.show else seeds:
        run(rows, Seed(arguments.folder, seed, arguments.quick), arguments)
    show([row for row in rows if row["seed"] in seeds])


def run(rows: list[Row], seed: Seed, arguments: argparse.Namespace) -> None:
    """The cells of a seed that are not there yet."""
    arms = [DENSE, *arguments.arms.split(",")]
    if not arguments.quick and {(row["arm"], row.get("timed", False)) for row in rows if row["seed"] == seed.seed} >= {
        (arm, timed) for arm in arms for timed in (False, True)
    }:
        return
    for arm in arms:
        known = any(row["arm"] == arm and row["seed"] == seed.seed and "test" in row for row in rows)
        if not known or not seed.graph(arm).exists():
            made = seed.arm(arm)
            if not known:
                note(rows, made, arguments.quick)
    for row in seed.timed(arms):
        note(rows, row, arguments.quick)


def note(rows: list[Row], row: Row, quick: bool) -> None:
    """Keep a row, on disk where it counts."""
    rows.append(row)
    print(row, flush=True)
    if not quick:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 5 and sys.argv[1] == "--cut":
        cut_by_peer(sys.argv[2], float(sys.argv[3]), sys.argv[4])
    else:
        main()
