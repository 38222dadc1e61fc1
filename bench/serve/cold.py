"""Cold starts: the first answer of a model that is not in memory, full speed after it, and that of a whole process.

    python bench/serve/cold.py [--quick] [--rounds 7]

`first`: an MLP of 100 MB in a running service, its form in the node's cache, the page cache warm; eight rows in every
request, where packed weights pay. `first_ms` is the first right answer; `full_ms` the time from the first request until
the answers are as fast as they get (from where the median of five is 1.3 times that of the last ones at most: one alone
may be slow by what else the machine does); `worst_ratio` the slowest later answer by that median, and `slow` how many
of the `later` ones took twice as long as it. `start_tiny`, `start_cnn`: from the start of the process to the first
answer. Rows: results/cold.jsonl, one a cell and round; those that are there are not run again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from homes import Asker, Row, cnn, formed, keep, memory, mlp, publish, rows, serving

RESULTS = Path(__file__).with_name("results") / "cold.jsonl"
SMALL = [f"small{number}" for number in range(17)]
"""So many models that none is loaded before it is asked for."""
ROWS = np.random.default_rng(0).standard_normal((8, 1024)).astype(np.float32)


def first(home: Path) -> Row:
    """One model that is asked for the first time."""
    with serving(home) as (process, address, _):
        asker = Asker(address)
        for name in SMALL[:4]:
            assert asker.ask(name, np.zeros((1, 8), np.float32))[0] == 200
        times: list[tuple[float, float]] = []
        began = time.perf_counter()
        cpu = sum(process.cpu_times()[:2])
        status, first_ms = asker.ask("big", ROWS)
        assert status == 200
        first_cpu = sum(process.cpu_times()[:2]) - cpu
        while time.perf_counter() - began < 4:
            status, took = asker.ask("big", ROWS)
            assert status == 200
            times.append(((time.perf_counter() - began) * 1000, took))
        steady = median(took for _, took in times[len(times) // 2 :])
        fives = [(times[at][0], median(took for _, took in times[at : at + 5])) for at in range(len(times) - 4)]
        full = max((at for at, took in fives if took > 1.3 * steady and at < 2000), default=first_ms)
        later = [took for at, took in times if at > full]
        return {
            "first_ms": round(first_ms, 1),
            "first_cpu_ms": round(1000 * first_cpu, 1),
            "full_ms": round(full, 1),
            "steady_ms": round(steady, 2),
            "worst_ratio": round(max(later) / steady, 2),
            "slow": sum(took > 2 * steady for took in later),
            "later": len(later),
            **memory(process),
        }


def start(home: Path, name: str, x: np.ndarray) -> Row:
    """A process from its start to its first answer."""
    with serving(home, name) as (process, address, started):
        status, _ = Asker(address).ask(name, x)
        took = time.perf_counter() - started
        assert status == 200
        cpu = sum(process.cpu_times()[:2])
        return {"seconds": round(took, 3), "cpu_s": round(cpu, 3), **memory(process)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        publish(home, "big", mlp(0, 1024, 24))
        publish(home, "cnn", cnn(1))
        for number, name in enumerate(SMALL):
            publish(home, name, mlp(number, 8, 1))
        image = np.zeros((1, 3, 224, 224), np.float32)
        with serving(home) as (_, address, _):  # both enter the cache
            asker = Asker(address)
            assert asker.ask("big", ROWS)[0] == asker.ask("cnn", image)[0] == 200
            formed(home, 2)
        cells = {
            "first": lambda: first(home),
            "start_tiny": lambda: start(home, SMALL[0], np.zeros((1, 8), np.float32)),
            "start_cnn": lambda: start(home, "cnn", image),
        }
        done = {(row["cell"], row["round"]) for row in rows(RESULTS)}
        for turn in range(1 if given.quick else given.rounds):
            for cell, run in cells.items():
                if (cell, turn) not in done:
                    keep(RESULTS, {"cell": cell, "round": turn, **run()})
    found = rows(RESULTS)
    for cell in cells:
        of = [row for row in found if row["cell"] == cell]
        told = {key: median(row[key] for row in of) for key in of[0] if isinstance(of[0][key], float)}
        print(cell, len(of), told)


if __name__ == "__main__":
    main()
