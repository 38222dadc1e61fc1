"""Runs one of modelmill's samplers on a problem; a program that takes cells and gives rows, as JSON lines.

Usage: `python ours.py COMMIT PYTHON_OF_PEERS`. BBOB's functions are asked of a child in the peers' environment, so that
all searchers see the same instances. A trial is said to have taken a minute: an evaluation stands for a training.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from problems import BOUND, FunctionProblem, Problem, curve, problem

from modelmill.method import find
from modelmill.search.suggest import Suggester
from modelmill.space import Choose, Dimension
from modelmill.spec import Goal
from modelmill.trial import Trial

TRIAL_S = 60.0

Row = dict[str, Any]


def walk_of(target: Problem) -> Callable[[Choose], Any]:
    """A problem's space as modelmill walks it."""
    if isinstance(target, FunctionProblem):
        return lambda choose: [choose(Dimension(name, low=-BOUND, high=BOUND)) for name in target.names]
    return lambda choose: target.answered(
        lambda setting: choose(
            Dimension(setting.name, low=0, high=len(setting.values) - 1, integer=True, step=1)
            if setting.ordered
            else Dimension(setting.name, options=setting.values)
        )
    )


def search(method: str, target: Problem, seed: int, evaluations: int) -> tuple[list[float], float]:
    """Losses in order, and CPU seconds of the searcher."""
    started = time.process_time()
    suggester = Suggester(walk_of(target), Goal(minimize=("loss",)), find("sampler", method)(), seed)
    spent = time.process_time() - started
    losses: list[float] = []
    for number in range(evaluations):
        started = time.process_time()
        picked = suggester.pick(number)
        took = time.process_time() - started
        spent += took
        if picked is None:
            break
        losses.append(target.loss(picked.settings))
        trial = Trial(
            number,
            "done",
            picked.settings,
            metrics={"loss": losses[-1]},
            seconds=TRIAL_S,
            memo=picked.memo,
            pick_s=took,
        )
        started = time.process_time()
        suggester.learn(trial)
        spent += time.process_time() - started
    return losses, spent


def served(python: str) -> Callable[[int, int, list[float]], float]:
    """BBOB's functions from a child in another environment, started when the first is asked for."""
    child: list[subprocess.Popen[str]] = []

    def evaluate(number: int, instance: int, point: list[float]) -> float:
        if not child:
            command = [python, str(Path(__file__).with_name("functions.py"))]
            child.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        asked, answers = child[0].stdin, child[0].stdout
        assert asked
        assert answers
        asked.write(json.dumps([number, instance, point]) + "\n")
        asked.flush()
        return float(json.loads(answers.readline()))

    return evaluate


def main() -> None:
    """Answer cells with rows."""
    warnings.simplefilter("ignore")
    commit, python = sys.argv[1:]
    evaluate = served(python)
    for line in sys.stdin:
        cell = json.loads(line)
        target = problem(cell["problem"], cell["seed"], evaluate)
        losses, spent = search(cell["method"], target, cell["seed"], cell["evaluations"])
        row = {**cell, "curve": curve(losses), "search_cpu_s": round(spent, 3), "with": f"modelmill {commit}"}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
