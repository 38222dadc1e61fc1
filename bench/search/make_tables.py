"""Make the tables of real training runs that the samplers are compared on. Takes half an hour of one core.

    OMP_NUM_THREADS=1 nice python bench/search/make_tables.py [NAME ...] [--dry]

A table that is there is not made again. Losses follow from the code, scikit-learn's version and fixed seeds; seconds
are CPU seconds of the fit as measured (a smaller ensemble takes its share of the larger one's).
"""

from __future__ import annotations

import argparse
import itertools
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import plans
import plans_joint
import sklearn
from plans import Plan
from sklearn.model_selection import KFold, StratifiedKFold
from table import ABSENT, FOLDER, Table, cells

CLIP = 1e-4


def main() -> None:
    """Make what is missing, each table once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--dry", action="store_true", help="only say how many cells and fits there are")
    arguments = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    for plan in all_plans():
        if arguments.names and plan.name not in arguments.names:
            continue
        fits = len(groups(plan))
        print(f"{plan.name}: {len(list(cells(plan.settings)))} cells, {fits} fits x {plan.folds} folds", flush=True)
        if arguments.dry or (FOLDER / f"{plan.name}.npz").exists():
            continue
        started = time.process_time()
        path = made(plan).save()
        print(f"  {time.process_time() - started:.0f} s, {path.stat().st_size / 1000:.0f} kB", flush=True)


def all_plans() -> list[Plan]:
    """Every plan, in the order of the files."""
    return [
        value()
        for module in (plans, plans_joint)
        for value in vars(module).values()
        if getattr(value, "__module__", "") == module.__name__
        and getattr(value, "__annotations__", {}) == {"return": "Plan"}
    ]


def groups(plan: Plan) -> list[list[dict[str, Any]]]:
    """Cells that one fit serves: equal in all but the number of trees."""

    def key(values: dict[str, Any]) -> str:
        return repr({name: value for name, value in values.items() if name != plan.staged})

    found: dict[str, list[dict[str, Any]]] = {}
    for values in cells(plan.settings):
        found.setdefault(key(values), []).append(values)
    return list(found.values())


def made(plan: Plan) -> Table:
    """Run every cell of a plan."""
    x, y = plan.data()
    folds = list(splits(plan, x, y))
    places, losses, seconds = [], [], []
    for group in groups(plan):
        runs = [fit(plan, group, x, y, train, test) for train, test in folds]
        for i, values in enumerate(group):
            places.append([s.values.index(values[s.name]) if s.name in values else ABSENT for s in plan.settings])
            losses.append([run[i][0] for run in runs])
            seconds.append(sum(run[i][1] for run in runs))
    note = f"{plan.loss} in {plan.folds} folds of {x.shape[0]} x {x.shape[1]}, scikit-learn {sklearn.__version__}"
    return Table(
        plan.name,
        note,
        plan.settings,
        np.array(places, np.uint8),
        np.array(losses, np.float32),
        np.array(seconds, np.float32),
    )


def splits(plan: Plan, x: np.ndarray, y: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows to train and to test on, fold by fold."""
    kind = KFold if plan.loss == "rmse" else StratifiedKFold
    return kind(plan.folds, shuffle=True, random_state=0).split(x, y)  # type: ignore[no-any-return]


def fit(
    plan: Plan, group: list[dict[str, Any]], x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray
) -> list[tuple[float, float]]:
    """Loss and CPU seconds of each cell of a group, on one fold."""
    largest = max(group, key=lambda values: values.get(plan.staged, 0))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        started = time.process_time()
        try:
            model = plan.make(largest).fit(x[train], y[train])
        except ValueError:  # a network whose weights overflowed
            model = None
        took = time.process_time() - started
        if model is None:
            return [(worst(plan, y), took) for _ in group]
        if plan.staged not in largest:
            return [(score(plan, answer(plan, model, x[test]), y[test], np.unique(y)), took)]
        counts = [values[plan.staged] for values in group]
        answers = stages(plan, model, x[test], counts)
        return [
            (score(plan, found, y[test], np.unique(y)), took * count / max(counts))
            for found, count in zip(answers, counts, strict=True)
        ]


def answer(plan: Plan, model: Any, x: np.ndarray) -> np.ndarray:
    """What a model says: probabilities where the loss is of probabilities."""
    found: np.ndarray = model.predict_proba(x) if plan.loss == "log_loss" else model.predict(x)
    return found


def stages(plan: Plan, pipeline: Any, x: np.ndarray, counts: list[int]) -> list[np.ndarray]:
    """What an ensemble says with its first so many trees, for each count."""
    model = pipeline[-1] if hasattr(pipeline, "steps") else pipeline
    if model is not pipeline and len(pipeline.steps) > 1:
        x = pipeline[:-1].transform(x)
    likely = plan.loss == "log_loss"
    staged = getattr(model, "staged_predict_proba" if likely else "staged_predict", None)
    if staged is not None:
        answers = list(itertools.islice(staged(x), max(counts)))
        return [answers[min(count, len(answers)) - 1] for count in counts]
    if plan.loss == "rmse":
        said = np.array([tree.predict(x) for tree in model.estimators_])
        return [said[:count].mean(0) for count in counts]
    said = np.array([tree.predict_proba(x) for tree in model.estimators_])
    chances = [said[:count].mean(0) for count in counts]
    return chances if likely else [model.classes_[chance.argmax(1)] for chance in chances]


def score(plan: Plan, said: np.ndarray, truth: np.ndarray, classes: np.ndarray) -> float:
    """The loss of some answers."""
    if plan.loss == "error":
        return float((said != truth).mean())
    if plan.loss == "rmse":
        found = float(np.sqrt(np.mean((said - truth) ** 2)))
        return min(found, 1e4) if np.isfinite(found) else 1e4
    chance = np.nan_to_num(said[np.arange(len(truth)), np.searchsorted(classes, truth)])
    return float(-np.log(np.clip(chance, CLIP, 1)).mean())


def worst(plan: Plan, y: np.ndarray) -> float:
    """The loss of a run that failed."""
    return {"error": 1.0, "rmse": 1e4, "log_loss": -float(np.log(CLIP))}[plan.loss]


if __name__ == "__main__":
    main()
