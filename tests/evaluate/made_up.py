"""Searches that never ran, small, large and odd, as the report of a build holds them."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from modelmill.evaluate.importance import importance, interplay
from modelmill.report import Baseline, Counts, Data, Limit, Lineage, Report, Value
from modelmill.trial import Point, Trial

MEMBERS = ("tpe", "gp", "local")
WHY = "more than half of the others were better by then"


def trials(count: int, seed: int = 0) -> list[Trial]:
    """Networks and trees: width, learning rate and pruning decide; some are stopped, some refused, some fail."""
    random = np.random.default_rng(seed)
    return [_trial(number, random) for number in range(count)]


def _trial(number: int, random: Any) -> Trial:
    width, rate = int(2 ** random.uniform(2, 8)), float(10 ** random.uniform(-4, -1))
    settings: dict[str, Any] = {"arch": "mlp" if number % 3 else "forest"}
    settings |= {"arch.mlp.width": width, "arch.mlp.depth": int(random.integers(1, 5))} if number % 3 else {}
    settings |= {"train.adam.learning_rate": rate, "train.adam.epochs": int(random.integers(5, 40))}
    settings |= {"prepare.0": str(random.choice(["scale", "impute"])), "compress.prune.magnitude": bool(number % 2)}
    settings |= {"compress.prune.magnitude.ratio": float(random.uniform(0.1, 0.8))} if number % 2 else {}
    settings |= {"compress.quantize.static": bool(random.integers(2)), "train.adam.batch": int(2 ** (4 + number % 4))}
    quality = float(0.97 - 0.03 * abs(np.log10(rate) + 2.5) - 0.3 / width + random.normal(0, 0.005))
    size, latency = 1000.0 * width, 0.01 + width / 2000 + 0.005 * float(random.uniform())
    state, error, notes = "done", "", ("trained",)
    if number % 11 == 7:
        state, notes = "stopped", ("trained", f"stopped at step {2 + number % 5}: {WHY}")
    elif number % 29 == 13:
        state, error = "failed", f"grew over {number} MB\ntraceback"
    elif number % 31 == 17:
        state, error = "refused", f"its graph has {width} kB untrained"
    steps = {"done": 8, "stopped": 2 + number % 5}.get(state, 0) * (number % 3 > 0)
    curve = [Point(i, {"valid_loss": 2 / i, "valid_accuracy": quality - 0.3 / i}) for i in range(1, steps + 1)]
    return Trial(
        number,
        state,
        settings,
        metrics={"accuracy": quality} if state == "done" else {},
        costs={"size_bytes": size, "latency_ms": latency} if state in ("done", "stopped") else {},
        curve=tuple(curve),
        notes=notes,
        error=error,
        seconds=2.0,
        measure_s=0.5 if state == "done" else 0.0,
        memo={"member": MEMBERS[number % 3]} if number else {},
        pick_s=0.01,
    )


def report(found: list[Trial], goal: dict[str, Any] | None = None, **details: Any) -> Report:
    """The report of a build that tried these, won by the first one that was done."""
    goal = goal or {"maximize": ["accuracy"], "minimize": ["latency_ms"], "limit": {"size_kb": 100, "accuracy": 0.8}}
    winner = next((trial for trial in found if trial.state == "done"), None)
    limits = {name: Limit(limit, limit, True) for name, limit in goal.get("limit", {}).items()}
    shares = {name: importance(found, name) for name in ("accuracy", "latency_ms", "size_kb")}
    done = [trial.number for trial in found if trial.state == "done"]
    return Report(
        name="made_up",
        version=1,
        live=True,
        task="classify",
        data=Data("sha256:" + "0" * 64, 100, 4),
        metrics={"accuracy": Value(0.9)},
        costs={},
        baseline=Baseline({}, {}),
        limits=limits,
        pareto=[],
        trials=Counts(len(done), 0, len(found) - len(done)),
        seconds=100.0,
        spec={"goal": goal, "search": {"sampler": {"method": "portfolio"}}},
        lineage=Lineage(),
        details={
            "trials": msgspec.to_builtins(found),
            "winner": winner.number if winner else None,
            "importance": shares["accuracy"],
            "importances": shares,
            "interplay": interplay(found, "accuracy", shares["accuracy"]),
            "course": {"moves": done[:9], "volumes": [[n, 1 - 0.5 / (i + 1)] for i, n in enumerate(done[:9])]},
            **details,
        },
    )
