"""A whole search in a process of its own, to be killed: prints a line for every trial that it yields.

Usage: child_search.py DATABASE_URL [LARGEST_FILE]
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from modelmill.errors import MillError
from modelmill.execute.local import Pool
from modelmill.search.ledger.ledger import Ledger
from modelmill.search.samplers.tpe import Tpe
from modelmill.search.search import Study, search
from modelmill.space import Choose, Dimension
from modelmill.spec import Budget, Goal
from modelmill.store.database import Database


def walk(choose: Choose) -> dict[str, Any]:
    """Two branches with settings of their own."""
    if choose(Dimension("arch", options=("line", "net"))) == "line":
        return {"strength": choose(Dimension("line.strength", low=1e-3, high=10.0, log=True))}
    return {
        "width": choose(Dimension("net.width", low=4, high=64, log=True, integer=True)),
        "rate": choose(Dimension("net.rate", low=0.0, high=1.0, step=0.1)),
    }


def setup(arguments: None) -> Any:
    """Nothing to set up."""
    return grow


def grow(payload: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A score that is a function of settings and seed; one kind of candidate fails."""
    settings = payload["settings"]
    width = settings.get("net.width", 2)
    score = 1 - abs(settings.get("net.rate", settings.get("line.strength", 0)) - 0.3) - payload["seed"] % 7 / 1000
    for step in (1, 2):
        yield {"step": step, "values": {"valid_accuracy": score * step / 2}}
    if width in (9, 10, 11):
        raise ValueError(f"width {width} does not work")
    yield {"metrics": {"accuracy": score}, "costs": {"size_bytes": 1000.0 * width}, "artifact": b"graph"}


def set_up_wild(arguments: None) -> Any:
    """Nothing to set up."""
    return wild


def wild(payload: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The candidate of x = 0 ends its process, that of 0.5 hangs, that of 1 takes all memory, all others are well."""
    x = payload["settings"]["x"]
    if x == 0:
        os._exit(3)
    while x == 0.5:
        time.sleep(60)
    kept = []
    while x == 1:
        kept.append(b"x" * 20_000_000)
    yield {"metrics": {"accuracy": x}}


def main(url: str, largest: int = 0) -> None:
    """Search twelve trials with one worker, going on with what an earlier run left; `largest` bytes fit into a file."""
    if largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    goal = Goal(maximize=("accuracy",), limit={"size_kb": 30})
    study = Study(walk, goal, Tpe(startup=4), seed=7, budget=Budget(trials=12), first=({"arch": "net"},))
    ledger, resumed = Ledger.open(Database(url), "key", {"seed": 7})
    print("resumed" if resumed else "new", flush=True)
    with Pool(1, setup) as pool:
        for trial in search(study, pool, lambda result: {"latency_ms": 0.5}, lambda artifact: "digest", ledger):
            print(trial.number, trial.state, len(trial.curve), flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1], *map(int, sys.argv[2:]))
    except MillError as error:
        sys.exit(f"modelmill: {error}")
