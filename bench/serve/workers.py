"""The memory of several workers that serve one model of 100 MB.

    python bench/serve/workers.py [--quick]

`pss_mb` of the whole tree of processes, where shared pages count once: of one process, and of `--workers` 2 and 4 with
their supervisor, once every worker has answered at full speed. Rows: results/workers.jsonl.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from homes import Asker, Row, formed, keep, memory, mlp, publish, rows, serving

RESULTS = Path(__file__).with_name("results") / "workers.jsonl"


def settled(home: Path, count: int, x: np.ndarray) -> Row:
    """The memory once nothing of it changes any more."""
    more = ["--workers", str(count)] if count > 1 else []
    with serving(home, "big", *more) as (process, address, _):
        before = memory(process)
        for _ in range(60):
            for _ in range(4):
                assert Asker(address).ask("big", x)[0] == 200
            time.sleep(0.5)
            now = memory(process)
            if abs(now["pss_mb"] - before["pss_mb"]) < 0.5 and now["pss_mb"] > 100:
                break
            before = now
        return now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    x = np.zeros((8, 1024), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        publish(home, "big", mlp(0, 1024, 24))
        with serving(home, "big") as (_, address, _):
            assert Asker(address).ask("big", x)[0] == 200
            formed(home, 1)
        done = {(row["workers"], row["round"]) for row in rows(RESULTS)}
        for turn in range(1 if given.quick else 3):
            for count in (1, 2, 4):
                if (count, turn) not in done:
                    keep(RESULTS, {"workers": count, "round": turn, **settled(home, count, x)})


if __name__ == "__main__":
    main()
