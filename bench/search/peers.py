"""Runs other searchers on a problem; a program that takes cells and gives rows, as JSON lines.

It lives in an environment of its own (`peers.txt`). Settings are the libraries' own but for what they are to be told of
the problem: that it is free of noise (`deterministic`), and the number of trials. SMAC3 has a facade for each kind of
problem: the one of hyperparameter optimisation (random forest) for the tables, the black-box one (Gaussian process) for
BBOB; `smac_forest` takes the former everywhere. `random` is Optuna's.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from functions import evaluate
from problems import BOUND, FunctionProblem, Problem, curve, problem

Row = dict[str, Any]


def by_optuna(method: str, target: Problem, seed: int, evaluations: int) -> tuple[list[float], float]:
    """Losses in order, and CPU seconds of the searcher."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    samplers: dict[str, Callable[[], Any]] = {
        "optuna_tpe": lambda: optuna.samplers.TPESampler(seed=seed),
        "optuna_gp": lambda: optuna.samplers.GPSampler(
            seed=seed, deterministic_objective=True, warn_independent_sampling=False
        ),
        "optuna_cmaes": lambda: optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
    }
    study = optuna.create_study(sampler=samplers[method]())
    losses: list[float] = []
    spent = 0.0
    for _ in range(evaluations):
        started = time.process_time()
        trial = study.ask()
        answers = _asked(trial, target)
        spent += time.process_time() - started
        losses.append(target.loss(answers))
        started = time.process_time()
        study.tell(trial, losses[-1])
        spent += time.process_time() - started
    return losses, spent


def _asked(trial: Any, target: Problem) -> dict[str, Any]:
    if isinstance(target, FunctionProblem):
        return {name: trial.suggest_float(name, -BOUND, BOUND) for name in target.names}
    return target.answered(
        lambda setting: (
            trial.suggest_int(setting.name, 0, len(setting.values) - 1)
            if setting.ordered
            else trial.suggest_categorical(setting.name, setting.values)
        )
    )


def by_smac(method: str, target: Problem, seed: int, evaluations: int) -> tuple[list[float], float]:
    """The same of SMAC3."""
    from smac import BlackBoxFacade, HyperparameterOptimizationFacade, Scenario
    from smac.runhistory.dataclasses import TrialValue

    smooth = method == "smac" and isinstance(target, FunctionProblem)
    facade = BlackBoxFacade if smooth else HyperparameterOptimizationFacade
    losses: list[float] = []
    spent = 0.0
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        scenario = Scenario(
            configuration_space(target, seed),
            deterministic=True,
            n_trials=evaluations,
            seed=seed,
            output_directory=Path(folder),
        )
        search = facade(scenario, _never_called, logging_level=logging.ERROR, overwrite=True)
        spent += time.process_time() - started
        for _ in range(evaluations):
            started = time.process_time()
            info = search.ask()
            spent += time.process_time() - started
            losses.append(target.loss({name: _plain(value) for name, value in dict(info.config).items()}))
            started = time.process_time()
            search.tell(info, TrialValue(cost=losses[-1]), save=False)
            spent += time.process_time() - started
    return losses, spent


def _never_called(config: Any, seed: int = 0) -> float:
    raise AssertionError("asked and told, SMAC runs nothing itself")


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def configuration_space(target: Problem, seed: int) -> Any:
    """A problem's space with its conditions, as ConfigSpace has it."""
    from ConfigSpace import AndConjunction, Categorical, ConfigurationSpace, Float, InCondition, Integer

    space = ConfigurationSpace(seed=seed)
    if isinstance(target, FunctionProblem):
        space.add([Float(name, (-BOUND, BOUND)) for name in target.names])
        return space
    found: dict[str, Any] = {}
    for setting in target.settings:
        made = (
            Integer(setting.name, (0, len(setting.values) - 1))
            if setting.ordered
            else Categorical(setting.name, list(setting.values))
        )
        space.add(made)
        found[setting.name] = made
        conditions = [InCondition(made, found[parent], list(wanted)) for parent, wanted in setting.when.items()]
        if conditions:
            space.add(conditions[0] if len(conditions) == 1 else AndConjunction(*conditions))
    return space


def run(cell: Row) -> Row:
    """The row of a cell."""
    target = problem(cell["problem"], cell["seed"], evaluate)
    library = "smac" if cell["method"].startswith("smac") else "optuna"
    searcher = by_smac if library == "smac" else by_optuna
    losses, spent = searcher(cell["method"], target, cell["seed"], cell["evaluations"])
    return {**cell, "curve": curve(losses), "search_cpu_s": round(spent, 3), "with": f"{library} {version(library)}"}


def main() -> None:
    """Answer cells with rows."""
    warnings.simplefilter("ignore")
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
