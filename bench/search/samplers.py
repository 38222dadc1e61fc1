"""modelmill's samplers against Optuna's TPE, GP and CMA-ES, SMAC3 and random search, 100 evaluations each.

    python bench/search/samplers.py [--quick] [--only METHOD,...] [--on tables,bbob] [--seeds 10] [--workers 1] [--show]

On every table of real training runs (`tables/`) and on BBOB's 24 functions in five dimensions (ioh; instance = seed +
1). The others have an environment of their own, which is made where it is missing (`peers.txt`).

Methods are compared on the cells that all of them have: leave SMAC3 out with `--only` to see all 24 functions.

Every cell (a problem, a method, a seed) is one line of `results/samplers_METHOD.jsonl`; a cell that is there is not run
again. Rows of modelmill say the commit they were made with: after a change of a sampler, remove its file. `--quick`
takes 4 tables, 4 functions and 3 seeds, without SMAC3's hours, and keeps its rows apart.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import stats
import table
from problems import CHECKPOINTS

sys.path.append(str(Path(__file__).parents[1]))

from environments import environment

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

PEERS = ("random", "optuna_tpe", "optuna_cmaes", "optuna_gp", "smac", "smac_forest")
METHODS = (*PEERS[:5], "portfolio")
EVALUATIONS = 100
SMAC_FUNCTIONS = (1, 3, 5, 6, 8, 10, 12, 15, 17, 20, 21, 23)
"""SMAC3's Gaussian process takes minutes a run: half of the functions, stated before anything was run."""

QUICK_TABLES = ("breast_cancer_families", "diabetes_boosting", "fashion_mlp", "wine_boosting")
QUICK_FUNCTIONS = (1, 8, 15, 21)

SLOW = {f"bbob_f{number}" for number in range(1, 25) if number not in SMAC_FUNCTIONS}

Row = dict[str, Any]


def main() -> None:
    """Run the cells that are asked for and are not there yet, then compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="methods, with commas; samplers of modelmill by their names")
    parser.add_argument("--on", default="tables,bbob")
    parser.add_argument("--functions", default="", help="numbers of BBOB's functions, with commas; all without")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="run nothing")
    parser.add_argument("--at", type=int, default=EVALUATIONS, choices=CHECKPOINTS, help="evaluations to compare at")
    parser.add_argument("--each", action="store_true", help="show the ranks on every problem")
    arguments = parser.parse_args()
    results = HERE / "results" / ("quick" if arguments.quick else "")
    results.mkdir(parents=True, exist_ok=True)
    if not arguments.show:
        done = {key(row) for row in read(results)}
        todo = [cell for cell in cells(arguments) if key(cell) not in done]
        print(f"{len(todo)} cells to run", flush=True)
        run(todo, results, arguments.workers)
    report(read(results), results, arguments)


def cells(arguments: argparse.Namespace) -> Iterator[Row]:
    """The cells that are asked for: tables before functions, method by method, seed by seed."""
    methods = arguments.only.split(",") if arguments.only else METHODS
    functions = [int(number) for number in arguments.functions.split(",") if number] or range(1, 25)
    tables = QUICK_TABLES if arguments.quick else table.names()
    chosen = QUICK_FUNCTIONS if arguments.quick else functions
    problems = {"tables": list(tables), "bbob": [f"bbob_f{number}" for number in chosen]}
    for kind in arguments.on.split(","):
        for method in methods:
            if arguments.quick and method == "smac" and kind == "bbob":
                continue
            for seed in range(min(arguments.seeds, 3) if arguments.quick else arguments.seeds):
                for problem in problems[kind]:
                    if method == "smac" and problem in SLOW:
                        continue
                    yield {"problem": problem, "method": method, "seed": seed, "evaluations": EVALUATIONS}


def key(row: Row) -> tuple[str, str, int]:
    """What makes a cell the same."""
    return row["problem"], row["method"], row["seed"]


def read(results: Path) -> list[Row]:
    """All rows of a folder."""
    return [json.loads(line) for path in sorted(results.glob("samplers_*.jsonl")) for line in path.open()]


def run(todo: list[Row], results: Path, workers: int) -> None:
    """Run cells in so many processes at a time, writing each row as it comes."""
    rest, lock = iter(todo), threading.Lock()

    def work() -> None:
        children: dict[bool, subprocess.Popen[str]] = {}
        while True:
            with lock:
                cell = next(rest, None)
            if cell is None:
                return
            peer = cell["method"] in PEERS
            if peer not in children or children[peer].poll() is not None:
                children[peer] = child(peer)
            started = time.monotonic()
            line = asked(children[peer], cell)
            took = time.monotonic() - started
            with lock:
                if not line:
                    print(f"{key(cell)} crashed; its error stands above", flush=True)
                    continue
                row = {**json.loads(line), "wall_s": round(took, 2), "at": time.strftime("%Y-%m-%d %H:%M")}
                with (results / f"samplers_{cell['method']}.jsonl").open("a") as file:
                    file.write(json.dumps(row) + "\n")
                best = row["curve"][max(row["curve"], key=int)]
                print(
                    f"{cell['method']:<14} {cell['problem']:<24} {cell['seed']:>2} {best:.5g} {took:.1f} s", flush=True
                )

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def peers_python() -> Path:
    """The interpreter of those that are compared."""
    return environment("search", HERE / "peers.txt")


def child(peer: bool) -> subprocess.Popen[str]:
    """A process that answers cells with rows, on one core."""
    own = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    peers = str(peers_python())
    command = [peers, str(HERE / "peers.py")] if peer else [sys.executable, str(HERE / "ours.py"), commit(), peers]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **own}
    )


def asked(process: subprocess.Popen[str], cell: Row) -> str:
    """The answer of a child to a cell; empty where it died."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps(cell) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        process.wait()
    return line


def commit() -> str:
    """The commit that the searched code is of; with a plus where samplers were changed since."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    changed = git("status", "--porcelain", "--", "modelmill/search", "modelmill/space.py", "modelmill/history.py")
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def report(rows: list[Row], results: Path, arguments: argparse.Namespace) -> None:
    """Ranks and tests over the cells that all methods have, for tables, functions and both; diagrams where all are."""
    wanted = arguments.only.split(",") if arguments.only else METHODS
    for kind in ("tables", "bbob", "all"):
        chosen = [row for row in rows if kind in ("all", "bbob" if row["problem"].startswith("bbob_") else "tables")]
        scores = {method: bests(chosen, method, str(arguments.at)) for method in wanted}
        scores = {method: found for method, found in scores.items() if found}
        comparison = stats.compare(scores) if len(scores) > 1 else None
        if comparison is None:
            continue
        print(f"\n{kind}: best of {arguments.at} evaluations, {comparison.about}")
        print(stats.text(comparison, each=arguments.each))
        for method in scores:
            spent = [row["search_cpu_s"] for row in chosen if row["method"] == method]
            print(f"  {method:<14} {sum(spent) / len(spent):8.2f} CPU s of search a run, {len(spent)} runs")
        if "portfolio" in scores:
            print(verdict(comparison))
        if set(scores) == set(METHODS) and arguments.at == EVALUATIONS:
            (results / f"samplers_{kind}.svg").write_text(stats.diagram(comparison))


def bests(rows: list[Row], method: str, at: str) -> dict[tuple[str, int], float]:
    """Problem and seed: the best loss of a method by then."""
    return {
        (row["problem"], row["seed"]): row["curve"][at]
        for row in rows
        if row["method"] == method and at in row["curve"]
    }


def verdict(comparison: stats.Comparison) -> str:
    """Where the portfolio stands between the best of the others and their mean; random search is not one of them."""
    ranks = dict(zip(comparison.methods, comparison.ranks, strict=True))
    others = [method for method in ranks if method in PEERS and method != "random"]
    if not others:
        return ""
    best = min(others, key=lambda method: ranks[method])
    p = comparison.holm.get(("portfolio", best), comparison.holm.get((best, "portfolio"), 1.0))
    mean = sum(ranks[method] for method in others) / len(others)
    return (
        f"  portfolio {ranks['portfolio']:.2f}; best of the others {best} {ranks[best]:.2f} (Holm p = {p:.3g}), "
        f"mean of the others {mean:.2f}"
    )


if __name__ == "__main__":
    main()
