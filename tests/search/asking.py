"""Plays samplers on functions, with several workers that end in any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from modelmill.contracts import Sampler
from modelmill.history import Past, Suggestion
from modelmill.space import Choose, Dimension, Settings, Space

Verdict = Callable[[Settings], Past]


def mixed(choose: Choose) -> None:
    choose(Dimension("rate", low=1e-4, high=1.0, log=True))
    choose(Dimension("share", low=0.0, high=1.0))
    choose(Dimension("steps", low=0.0, high=0.9, step=0.3))
    choose(Dimension("width", low=4, high=65, log=True, integer=True))
    choose(Dimension("batch", options=(64, 16, 32)))
    if choose(Dimension("body", options=("line", "net", "tree"))) == "net":
        choose(Dimension("depth", low=1, high=6, integer=True))
        choose(Dimension("turn", options=("relu", "tanh")))


def numbers(choose: Choose) -> None:
    for i in range(4):
        choose(Dimension(f"x{i}", low=-5.0, high=5.0))


def score(settings: Settings) -> float:
    """Best at a rate of 0.01, share 0.7, 0.3 steps, width 16, batch 16 and a net of depth 3 with tanh."""
    loss = (np.log10(settings["rate"]) + 2) ** 2 / 4 + (settings["share"] - 0.7) ** 2 * 4
    loss += abs(settings["steps"] - 0.3) + abs(np.log(settings["width"] / 16)) / 2 + abs(settings["batch"] - 16) / 48
    if settings["body"] == "net":
        return float(loss + abs(settings["depth"] - 3) / 5 + (settings["turn"] != "tanh") * 0.3)
    return float(loss + 0.5 + (settings["body"] == "tree") * 0.3)


def bowl(settings: Settings) -> float:
    """An ellipsoid that is long in one direction, with its minimum at (1, -2, 3, 0.5)."""
    x = np.array([settings[f"x{i}"] for i in range(4)]) - np.array([1, -2, 3, 0.5])
    return float(((x * np.array([1, 2, 4, 8])) ** 2).sum())


def one_loss(number: int, suggestion: Suggestion) -> Past:
    return Past(number, suggestion.settings, "done", (score(suggestion.settings),), memo=suggestion.memo)


def hard(number: int, suggestion: Suggestion) -> Past:
    """Two objectives and a limit; some trials fail, some are stopped, some have no losses."""
    settings, memo = suggestion.settings, suggestion.memo
    if number % 7 == 3:
        return Past(number, settings, "failed", misses=np.inf, memo=memo)
    losses = (score(settings), settings["width"] / 65)
    if number % 7 == 5:
        return Past(number, settings, "stopped", losses if number % 2 else (), memo=memo)
    return Past(number, settings, "done", losses, misses=max(0.0, settings["share"] - 0.5), memo=memo)


def asked(
    sampler: Sampler,
    walk: Callable[[Choose], Any],
    end: Callable[[int, Suggestion], Past],
    count: int,
    workers: int = 1,
    seed: int = 0,
    openings: Sequence[Settings] = (),
    fresh: bool = False,
) -> list[Past]:
    """The history of a search; `fresh`: every suggestion is compared with that of a pick that knows nothing yet."""
    space, chance = Space(walk), np.random.default_rng(seed)
    pick = sampler(space)
    history = [end(number, Suggestion(settings)) for number, settings in enumerate(openings)]
    running: dict[int, Suggestion] = {}
    while len(history) < count or running:
        if len(history) < count and len(running) < workers:
            number = len(history)
            suggestion = pick(history, seed * 1_000_003 + number)
            if fresh:
                assert sampler(Space(walk))(list(history), seed * 1_000_003 + number) == suggestion
            if suggestion is None:
                count = number
                continue
            assert space.complete(suggestion.settings, chance) == suggestion.settings
            running[number] = suggestion
            history.append(Past(number, suggestion.settings, "running", memo=suggestion.memo))
        else:
            number = list(running)[chance.integers(len(running))]
            history[number] = end(number, running.pop(number))
    return history


def best(history: Sequence[Past]) -> float:
    return min(one.losses[0] for one in history if one.scored)


def typical(sampler: Sampler, walk: Callable[[Choose], Any], loss: Callable[[Settings], float], count: int) -> float:
    """The median over five seeds of the best loss that a search of so many trials finds."""

    def end(number: int, suggestion: Suggestion) -> Past:
        return Past(number, suggestion.settings, "done", (loss(suggestion.settings),), memo=suggestion.memo)

    return float(np.median([best(asked(sampler, walk, end, count, seed=seed)) for seed in range(5)]))
