"""Makes `nets.npz`: an exhaustive table of about 2,000 small networks, every one trained on digits in 5 folds.

    python bench/search/make_nets.py train       # about 2 hours on one core; goes on where it was stopped
    python bench/search/make_nets.py latency     # some minutes, on a machine that does nothing else
    python bench/search/make_nets.py pack        # writes the table

Every canonical form of the space SPACE is trained once: 334 cells of 3 nodes x 3 widths x 1 or 2 stages. Kept for each
are the accuracy of every fold, size, multiply-adds and the measured latency of one row on one thread.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

HERE = Path(__file__).parent
ROWS = HERE / "results" / "nets.jsonl"
TIMES = HERE / "results" / "nets_latency.jsonl"
TABLE = HERE / "nets.npz"

OPERATIONS = ["conv3", "conv1", "max", "identity"]
MOST = 5
WIDTHS = [3, 6, 12]
STAGES = [1, 2]
EPOCHS = 8
BATCH = 128
FOLDS = 5


def space() -> dict[str, Any]:
    """The table of the spec's arch with the ranges of the benchmark."""
    from modelmill.arch.cell import space

    settings = {
        "most": MOST,
        "width": {"any": WIDTHS},
        "stages": {"any": STAGES},
        "growth": 2.0,
        "stride": 2,
    }
    return space("image", 3, OPERATIONS, settings)


def key_of(canonical: Mapping[str, Any]) -> str:
    """What names a network, whatever settings gave it."""
    return json.dumps(canonical, sort_keys=True)


def nets() -> Iterator[Any]:
    """Every distinct network of the space, in a fixed order."""
    from modelmill.arch.cell import Cell
    from modelmill.network.wiring import flags, wiring
    from modelmill.network.wiring_repair import canonical

    rows = [[(1,)], *(list(itertools.product((0, 1), repeat=n)) for n in (2, 3, 4))]
    cells = {
        canonical(wiring(operations, edges), MOST)
        for edges in itertools.product(*rows)
        for operations in itertools.product(OPERATIONS, repeat=3)
    }
    for cell in sorted(cells, key=lambda cell: (cell.operations, cell.reads)):
        for width, stages in itertools.product(WIDTHS, STAGES):
            settings = {"operations": cell.operations, "edges": flags(cell), "width": width, "stages": stages}
            yield Cell(kind="image", growth=2.0, stride=2, **settings)


def job() -> Any:
    from modelmill.recipe.look import look
    from modelmill.spec import read

    spec = {"data": {"method": "builtin", "name": "digits"}, "arch": space(), "train": {"method": "adam"}}
    return look(read({**spec, "compress": []})).job


def model_of(job: Any, net: Any, data: Any, seed: int) -> Any:
    from modelmill.method import decode
    from modelmill.model import Body, Model, Part
    from modelmill.prepare.chain import prepare

    prepared = prepare([decode("prepare", step) for step in job.spec.prepare], data, "image")
    body = Body("network", net(job.signature, prepared.shape, seed), net.as_table(), prepared.shape)
    return Model((Part(body, prepared.fragment),), job.signature)


def train() -> None:
    import torch

    from modelmill.evaluate.costs.macs import count
    from modelmill.evaluate.judge import predict
    from modelmill.graph.export import export
    from modelmill.recipe.folds import Plan
    from modelmill.train.fit import fit
    from modelmill.train.recipe import Recipe

    torch.set_num_threads(1)
    known = {json.loads(line)["net"] for line in ROWS.read_text().splitlines()} if ROWS.exists() else set()
    found = job()
    cuts = Plan(FOLDS).cut(found.splits, 0)
    recipe = Recipe(learning_rate=0.02, epochs=EPOCHS, batch=BATCH, schedule="one_cycle", weight_decay=0.01, patience=0)
    with ROWS.open("a") as file:
        for net in nets():
            key = key_of(net.canonical())
            if key in known:
                continue
            right = []
            for number, cut in enumerate(cuts):
                *_, last = fit(model_of(found, net, cut.train, number), cut, found.task, recipe, number)
                graph = export(last.result, found.task)
                right.append(float((predict(graph, cut.valid)["label"] == cut.valid.target).mean()))
            row = {
                "net": key,
                "folds": [round(one, 6) for one in right],
                "size_bytes": len(graph),
                "macs": count(graph),
            }
            file.write(json.dumps(row) + "\n")
            file.flush()


def latency() -> None:
    """Three passes over all networks, so that what the machine does meanwhile hits none of them alone."""
    from modelmill.evaluate.judge import measure
    from modelmill.graph.export import export

    found = job()
    with TIMES.open("w") as file:
        for number in range(3):
            for net in nets():
                graph = export(model_of(found, net, found.splits.train, 0), found.task)
                took = measure([graph], found.splits.valid, ["latency_ms"], quick=True)[0]["latency_ms"]
                file.write(json.dumps({"net": key_of(net.canonical()), "pass": number, "latency_ms": took}) + "\n")
                file.flush()


def pack() -> None:
    import numpy as np

    rows = {row["net"]: row for row in map(json.loads, ROWS.read_text().splitlines())}
    times: dict[str, list[float]] = {}
    for row in map(json.loads, TIMES.read_text().splitlines()):
        times.setdefault(row["net"], []).append(row["latency_ms"])
    keys = sorted(rows)
    np.savez_compressed(
        TABLE,
        net=np.array(keys),
        folds=np.array([rows[key]["folds"] for key in keys], np.float32),
        size_bytes=np.array([rows[key]["size_bytes"] for key in keys], np.int32),
        macs=np.array([rows[key]["macs"] for key in keys], np.int64),
        latency_ms=np.array([np.median(times[key]) for key in keys], np.float32),
    )


if __name__ == "__main__":
    {"train": train, "latency": latency, "pack": pack}[sys.argv[1] if len(sys.argv) > 1 else "train"]()
