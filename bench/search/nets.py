"""Architecture search on the exhaustive table `nets.npz` (see `make_nets.py`): how near the best in 150 looks.

    python bench/search/nets.py [--quick] [--only portfolio,random] [--runs 50] [--evaluations 150] [--show]

Every method searches the same space of settings; equal graphs are one trial, as in the mill. `random`, `evolution`
(aging evolution alone) and the generators stand beside the default. A cell (method, run) is a line of
`results/nets_runs.jsonl`; one that is there is not run again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import stats
from make_nets import TABLE, key_of, space

HERE = Path(__file__).parent
METHODS = ("portfolio", "random", "evolution", "local", "tpe", "wirings", "controller", "graphs")
GENERATORS = ("wirings", "controller", "graphs")
NEAR = 0.003
"""How near the best counts as found: 0.3 points of accuracy."""

Row = dict[str, Any]


class Table:
    """Accuracy by canonical form."""

    def __init__(self) -> None:
        found = np.load(TABLE)
        self.accuracy = dict(zip(found["net"].tolist(), found["folds"].mean(1).tolist(), strict=True))
        self.best = max(self.accuracy.values())


def run(table: Table, method: str, seed: int, evaluations: int) -> Row:
    """One search."""
    from modelmill.arch.cell import Cell
    from modelmill.method import decode
    from modelmill.search.suggest import Suggester
    from modelmill.spec import Goal, Spec, pick
    from modelmill.trial import Trial

    spec = Spec(data={"method": "builtin", "name": "digits"}, arch=space(), train={"method": "adam"}, compress=())

    def canonical(settings: Row) -> str:
        arch = dict(pick(spec, lambda dimension: settings[dimension.name]).arch)
        arch.pop("method")
        return key_of(Cell(**arch).canonical())

    generator = decode("generator", {"method": method}) if method in GENERATORS else None
    sampler = decode("sampler", {"method": "random" if generator else method})
    suggester = Suggester(
        lambda choose: pick(spec, choose), Goal(maximize=("accuracy",)), sampler, seed, canonical, generator
    )
    best, curve = 0.0, []
    for number in range(evaluations):
        suggestion = suggester.pick(number)
        if suggestion is None:
            break
        accuracy = table.accuracy[canonical(suggestion.settings)]
        best = max(best, accuracy)
        curve.append(round(best, 6))
        scores = {"accuracy": accuracy}
        suggester.learn(Trial(number, "done", suggestion.settings, metrics=scores, memo=suggestion.memo, work=1.0))
    return {"method": method, "run": seed, "evaluations": evaluations, "best": best, "curve": curve[9::10]}


def report(path: Path, table: Table) -> None:
    """How often each method came near the best, after how many looks, and by how much it missed at the end."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    found: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["run"]):
        found.setdefault(row["method"], []).append(row)
    print(f"{len(table.accuracy)} networks, the best has {table.best:.4f}")
    looks: dict[str, Any] = {}
    for method, runs in found.items():
        misses = np.array([table.best - row["best"] for row in runs])
        looks[method] = np.array([_looks(row, table.best) for row in runs])
        near = f"within {NEAR} in {np.mean(misses <= NEAR):4.0%} of {len(runs)} runs"
        when = f"after {looks[method].mean():5.1f} looks (mean)"
        print(f"{method:12} {near}, {when}; mean miss at the end {misses.mean():.5f}")
    for other in ("random", "evolution"):
        if len(looks.get(other, ())) == len(looks.get("portfolio", ())) > 0:
            p = stats.signed_rank(looks["portfolio"], looks[other])
            print(f"looks of portfolio against {other}: p {p:.4f}")


def _looks(row: Row, best: float) -> int:
    """After how many evaluations, in tens, a run had come near the best; ten more than all where it never did."""
    near = (10 * (place + 1) for place, at in enumerate(row["curve"]) if best - at <= NEAR)
    return next(near, row["evaluations"] + 10)


def main() -> None:
    """Run the cells that are not there yet, then report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5 runs, three methods")
    parser.add_argument("--only", default="")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--evaluations", type=int, default=150)
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    path = HERE / "results" / ("nets_quick.jsonl" if arguments.quick else "nets_runs.jsonl")
    path.touch()
    done = {(row["method"], row["run"]) for row in map(json.loads, path.read_text().splitlines())}
    table = Table()
    methods = arguments.only.split(",") if arguments.only else METHODS[:3] if arguments.quick else METHODS
    for seed, method in itertools.product(range(5 if arguments.quick else arguments.runs), methods):
        if arguments.show or (method, seed) in done:
            continue
        row = run(table, method, seed, arguments.evaluations)
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
    report(path, table)


if __name__ == "__main__":
    main()
