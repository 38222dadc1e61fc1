"""How many optima niching keeps: CEC'13's first ten functions, the competition's evaluations, against pymoo's NicheGA.

    python bench/search/niching.py [--quick] [--only METHOD,...] [--seeds 10] [--show]

Peak ratio: the part of the global optima that the last population holds to 1e-3, by the competition's counting; the
other accuracies, and the ratio of everything evaluated, stand in the rows. Every cell is one line of
`results/niching_METHOD.jsonl`; a cell that is there is not run again. `--quick`: 3 seeds, a tenth of the evaluations,
rows of its own. `nichega` needs the environment of `peers.txt`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import stats
from cec13 import LANDSCAPES
from samplers import HERE, commit, peers_python

PEERS = ("nichega", "nichega_large")
METHODS = ("niching", "nichega", "nichega_large")
ACCURACY = "0.001"

Row = dict[str, Any]


def main() -> None:
    """Run the cells that are asked for and are not there yet, then compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default=",".join(METHODS))
    parser.add_argument("--functions", default=",".join(str(i + 1) for i in range(len(LANDSCAPES))))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--show", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    results = HERE / "results" / ("quick" if arguments.quick else "")
    results.mkdir(parents=True, exist_ok=True)
    done = {(row["method"], row["function"], row["seed"]) for row in read(results)}
    for method in [] if arguments.show else arguments.only.split(","):
        for seed in range(min(3, arguments.seeds) if arguments.quick else arguments.seeds):
            for function in map(int, arguments.functions.split(",")):
                if (method, function, seed) not in done:
                    keep(results, method, run(method, function, seed, 10 if arguments.quick else 1))
    report(read(results))


def run(method: str, function: int, seed: int, share: int) -> Row:
    """The row of a cell, from a process of its own."""
    python = peers_python() if method in PEERS else Path(sys.executable)
    command = [str(python), str(HERE / "niching_run.py"), method, str(function), str(seed), str(share)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    row: Row = json.loads(done.stdout)
    made = {} if method in PEERS else {"with": f"modelmill {commit()}"}
    return {**row, **made, "at": time.strftime("%Y-%m-%d %H:%M")}


def keep(results: Path, method: str, row: Row) -> None:
    """Write a row down, and say it."""
    with (results / f"niching_{method}.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    ratio = row["peak_ratio"][ACCURACY]
    print(f"{method} F{row['function']} {row['seed']}: {ratio:.3f}, {row['cpu_s']:.0f} CPU s", flush=True)


def read(results: Path) -> list[Row]:
    """All rows of a folder."""
    return [json.loads(line) for path in sorted(results.glob("niching_*.jsonl")) for line in path.open()]


def report(rows: list[Row]) -> None:
    """Peak ratios by function, their mean with an interval over runs, and Wilcoxon's test over the shared runs."""
    methods = [m for m in METHODS if any(row["method"] == m for row in rows)]
    print(
        f"\npeak ratio at {ACCURACY}, mean of runs (of everything evaluated)\n{'':<24}"
        + "".join(f"{m:>22}" for m in methods)
    )
    ratio = {
        m: {(r["function"], r["seed"]): r["peak_ratio"][ACCURACY] for r in rows if r["method"] == m} for m in methods
    }
    every = {
        m: {(r["function"], r["seed"]): r["peak_ratio_of_all"][ACCURACY] for r in rows if r["method"] == m}
        for m in methods
    }
    for i, landscape in enumerate(LANDSCAPES, start=1):
        line = ""
        for method in methods:
            last, whole = ([v for (f, _), v in of[method].items() if f == i] for of in (ratio, every))
            line += f"{np.mean(last):>14.3f} ({np.mean(whole):.3f})" if last else f"{'-':>22}"
        print(f"{landscape.name:<24}{line}")
    for method in methods:
        seeds = sorted({seed for _, seed in ratio[method]})
        whole = [s for s in seeds if all((f, s) in ratio[method] for f in range(1, len(LANDSCAPES) + 1))]
        if whole:
            means = [np.mean([ratio[method][f, s] for f in range(1, len(LANDSCAPES) + 1)]) for s in whole]
            mean, low, high = stats.interval(np.array(means))
            print(f"{method:<16} mean of all functions {mean:.3f} ({low:.3f} to {high:.3f}), {len(whole)} seeds")
    for method in methods[1:] if methods and methods[0] == "niching" else []:
        shared = sorted(set(ratio["niching"]) & set(ratio[method]))
        if shared:
            first, second = (np.array([ratio[m][pair] for pair in shared]) for m in ("niching", method))
            by = [[(first - second)[[f == i for f, _ in shared]].mean()] for i in sorted({f for f, _ in shared})]
            p = stats.signed_rank(np.array(by)[:, 0], np.zeros(len(by)))
            print(f"niching above {method} by {np.mean(first - second):+.3f}; Wilcoxon over functions p = {p:.3g}")


if __name__ == "__main__":
    main()
