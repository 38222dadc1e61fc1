"""A thousand registered models in one process, with memory for a hundred; and the memory that unloading gives back.

    python bench/serve/density.py [--quick] [--seconds 60]

`zipf`: eight connections ask models drawn by Zipf's law (exponent 1). `over_ratio` is the most that resident memory
grew since before the first load, by the budget. `cycles`: one model after another is asked and unloaded, 200 times,
each time another one; `growth_ratio` is the resident memory after them by that after the first 20. Rows:
results/density.jsonl.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from homes import Asker, Row, keep, mlp, publish, rows, serving

RESULTS = Path(__file__).with_name("results") / "density.jsonl"
MODELS, WIDTH, LAYERS = 1000, 128, 3
BUDGET_MB = 100
X = np.zeros((1, WIDTH), np.float32)


def zipf(home: Path, models: int, seconds: float) -> Row:
    """Traffic on many models, and the memory meanwhile."""
    with serving(home, "--memory-budget", f"{BUDGET_MB}MB") as (process, address, _):
        Asker(address).states()
        time.sleep(1)
        before = process.memory_info().rss
        codes: dict[int, int] = {}
        end = time.monotonic() + seconds

        def traffic(seed: int) -> None:
            asker, draw = Asker(address), np.random.default_rng(seed)
            weights = 1 / np.arange(1, models + 1)
            weights /= weights.sum()
            while time.monotonic() < end:
                status, _ = asker.ask(f"m{draw.choice(models, p=weights)}", X)
                codes[status] = codes.get(status, 0) + 1

        threads = [threading.Thread(target=traffic, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        most = 0
        while any(thread.is_alive() for thread in threads):
            most = max(most, process.memory_info().rss - before)
            time.sleep(0.02)
        states = list(Asker(address).states().values())
        return {
            "requests": sum(codes.values()),
            "errors": sum(count for code, count in codes.items() if code != 200),
            "in_memory": states.count("READY"),
            "over_ratio": round(most / (BUDGET_MB * 1e6), 3),
            "before_mb": round(before / 1e6, 1),
        }


def cycles(home: Path, count: int) -> Row:
    """Load and unload, and the memory after it."""
    with serving(home, "--memory-budget", f"{BUDGET_MB}MB") as (process, address, _):
        asker = Asker(address)
        seen: list[int] = []
        for number in range(count):
            name = f"m{number}"
            assert asker.ask(name, X)[0] == 200
            asker.connection.request("POST", f"/v2/repository/models/{name}/unload", b"{}")
            assert asker.connection.getresponse().read() == b"{}"
            seen.append(psutil.Process(process.pid).memory_info().rss)
        start, ended = seen[min(20, count // 2)], seen[-1]
        return {"cycles": count, "growth_ratio": round(ended / start, 4), "rss_mb": round(ended / 1e6, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    models = 150 if given.quick else MODELS
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for number in range(models):
            publish(home, f"m{number}", mlp(number, WIDTH, LAYERS))
        done = {(row["cell"], row["models"]) for row in rows(RESULTS)}
        cells = {
            "zipf": lambda: zipf(home, models, 5 if given.quick else given.seconds),
            "cycles": lambda: cycles(home, min(200, models)),
        }
        for cell, run in cells.items():
            if (cell, models) not in done:
                keep(RESULTS, {"cell": cell, "models": models, **run()})


if __name__ == "__main__":
    main()
