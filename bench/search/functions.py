"""BBOB's functions as ioh has them; as a program it answers JSON lines, for searchers that live where ioh does not."""

from __future__ import annotations

import json
import sys
from functools import lru_cache
from typing import Any

import ioh
from problems import DIMENSIONS


@lru_cache
def function(number: int, instance: int) -> Any:
    """One instance of a function."""
    return ioh.get_problem(number, instance, DIMENSIONS)


def evaluate(number: int, instance: int, point: list[float]) -> float:
    """By how much a point is above the optimum."""
    found = function(number, instance)
    return float(found(point) - found.optimum.y)


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(evaluate(*json.loads(line))), flush=True)
