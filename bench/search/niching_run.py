"""One run of a niching method on one landscape: a JSON line with the part of the optima that was found.

    python niching_run.py METHOD NUMBER SEED [EVALUATIONS_DIVIDED_BY]

`nichega` is pymoo's NicheGA as it comes (a population of 100, niches of 5 % of the space); `nichega_large` has five
individuals to an optimum, at least 100, and niches of 1 %: more than a user can know who does not know how many optima
there are. They need the peers' environment. `niching` is modelmill's, with the population that its docstring advises, a
member for 400 evaluations.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np
from cec13 import LANDSCAPES, Counted, Landscape, ratios


def by_pymoo(landscape: Landscape, counted: Counted, seed: int, settings: dict[str, Any]) -> np.ndarray:
    """The last population of NicheGA."""
    from pymoo.algorithms.soo.nonconvex.ga_niching import NicheGA
    from pymoo.core.problem import Problem
    from pymoo.optimize import minimize

    class Upside(Problem):
        def __init__(self) -> None:
            super().__init__(
                n_var=landscape.dimensions,
                n_obj=1,
                xl=np.array(landscape.low, float),
                xu=np.array(landscape.high, float),
            )

        def _evaluate(self, x: np.ndarray, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            out["F"] = -counted(x)

    size = settings["pop_size"]
    limit = ("n_eval", landscape.evaluations - size + 1)  # the generation that reaches it is the last
    done = minimize(Upside(), NicheGA(**settings), limit, seed=seed, verbose=False)
    return np.asarray(done.pop.get("X"), float)


def nichega(landscape: Landscape, counted: Counted, seed: int) -> np.ndarray:
    """As it comes."""
    return by_pymoo(landscape, counted, seed, {"pop_size": 100})


def nichega_large(landscape: Landscape, counted: Counted, seed: int) -> np.ndarray:
    """With room for every optimum."""
    settings = {"pop_size": max(100, 5 * landscape.optima), "norm_niche_size": 0.01}
    return by_pymoo(landscape, counted, seed, settings)


def niching(landscape: Landscape, counted: Counted, seed: int) -> np.ndarray:
    """modelmill's, on coordinates from 0 to 1."""
    from modelmill.search.population.niches import optimize

    low, high = np.array(landscape.low, float), np.array(landscape.high, float)
    state = optimize(
        lambda points: -counted(low + (high - low) * points),
        landscape.dimensions,
        landscape.evaluations,
        max(4, landscape.evaluations // 400),
        seed,
    )
    return np.asarray(low + (high - low) * state.points)


METHODS = {"niching": niching, "nichega": nichega, "nichega_large": nichega_large}


def main() -> None:
    """Run the cell and print its row."""
    method, number, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    share = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    landscape = LANDSCAPES[number - 1]
    landscape = dataclasses.replace(landscape, evaluations=landscape.evaluations // share)
    counted = Counted(landscape)
    started = time.process_time()
    last = METHODS[method](landscape, counted, seed)
    row = {
        "function": number,
        "method": method,
        "seed": seed,
        "evaluations": counted.asked,
        "peak_ratio": ratios(landscape, last, landscape.values(last)),
        "peak_ratio_of_all": counted.ratios_of_all(),
        "population": len(last),
        "cpu_s": round(time.process_time() - started, 2),
        "with": "modelmill" if method == "niching" else f"pymoo {version('pymoo')}",
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
