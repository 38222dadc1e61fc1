"""The Markov chains of an annealed search: where each went, and whether they have settled."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from modelmill.history import History, Past
from modelmill.metrics.convergence import AGREEMENT, effective_sample_size, r_hat
from modelmill.search.past import scores

ENOUGH = 100
"""Independent draws below which R-hat says little, all chains together (Vehtari et al., 2021)."""

KEY = "anneal"
"""Under which name a trial's memo holds its place in a chain."""


class Numbers(msgspec.Struct, frozen=True):
    """How the states of the chains are spread along a number."""

    mean: float
    deviation: float
    quartiles: tuple[float, float, float]
    size: float
    """How many independent draws they are worth; NaN where it is not defined."""
    agreement: float
    """R-hat: 1 where the chains agree; NaN where it is not defined."""


class Chains(msgspec.Struct, frozen=True):
    """What the chains of a search did."""

    chains: int
    draws: int
    """States, all chains together: a rejected proposal is one more draw of the state before."""
    acceptance: float
    """The part of proposals that was accepted; NaN where there was none."""
    steps: tuple[tuple[float, ...], ...]
    """The course of the step, chain by chain."""
    temperatures: tuple[tuple[float, ...], ...]
    transitions: dict[str, dict[str, dict[str, int]]]
    """Category: from option: to option: how often, from one state to the next."""
    frequencies: dict[str, dict[str, float]]
    """Category: option: the part of the states that have it."""
    numbers: dict[str, Numbers]
    """Number: its spread over the states that have it."""
    loss: Numbers | None
    words: tuple[str, ...]
    """The same for people."""


def chains(history: History) -> dict[int, list[Past]]:
    """Chain: its trials in their order."""
    found: dict[int, list[Past]] = {}
    for one in history:
        if KEY in one.memo:
            found.setdefault(int(one.memo[KEY]["chain"]), []).append(one)
    return found


def accepted(one: Past, value: Mapping[int, float]) -> bool:
    """Whether a chain goes to a proposal: it is as good or better, or its chance was large enough.

    value: the score of each trial by its number; NaN for one without a verdict, which no chain goes to.

    >>> one = Past(1, {}, "done", (1.5,), memo={"anneal": {"parent": 0, "temperature": 1.0, "u": 0.6}})
    >>> accepted(one, {0: 1.0, 1: 1.5}), accepted(one, {0: 1.0, 1: 1.6})
    (True, False)
    """
    memo = one.memo[KEY]
    if memo["parent"] is None:
        return True
    new, old = value[one.number], value.get(memo["parent"], math.nan)
    if math.isnan(new) or one.state in ("failed", "refused"):
        return False
    if math.isnan(old) or new <= old:
        return True
    heat = float(memo["temperature"])
    return heat > 0 and float(memo["u"]) < math.exp(-(new - old) / heat)


def statistics(history: History) -> Chains:
    """How the chains went, from the memos of their trials."""
    walks = [found for chain in chains(history).values() if (found := walk(chain, history))]
    states = [[state for state, _ in found] for found in walks]
    moves = [went for found in walks for _, went in found if went is not None]
    value = dict(zip((one.number for one in history), scores(history).tolist(), strict=True))
    categories, ranges = _settings(states)
    acceptance = sum(moves) / len(moves) if moves else math.nan
    memos = [[one.memo[KEY] for one in chain] for chain in chains(history).values()]
    numbers = {name: spread for name in ranges if (spread := _numbers(_along(states, name)))}
    loss = _numbers([[value[state.number] for state in chain] for chain in states])
    draws = sum(len(chain) for chain in states)
    return Chains(
        chains=len(memos),
        draws=draws,
        acceptance=acceptance,
        steps=tuple(tuple(float(memo["step"]) for memo in chain) for chain in memos),
        temperatures=tuple(tuple(float(memo["temperature"]) for memo in chain) for chain in memos),
        transitions={name: _transitions(states, name) for name in categories},
        frequencies={name: _frequencies(states, name) for name in categories},
        numbers=numbers,
        loss=loss,
        words=_words(draws, acceptance, memos, loss, numbers),
    )


def walk(chain: Sequence[Past], history: History) -> list[tuple[Past, bool | None]]:
    """The states of a chain after each of its trials, and whether the proposal was accepted; None for its start, and
    where it proposed to stay.

    What was decided is seen from the next trial, which says so, with the proposals in between that were known already;
    the last one is decided now, and what runs has not come to anything yet.
    """
    by_number = {one.number: one for one in history}
    value = dict(zip(by_number, scores(history).tolist(), strict=True))
    found: list[tuple[Past, bool | None]] = []
    for one, after in zip(chain, [*chain[1:], None], strict=True):
        if one.state == "running":
            continue
        memo = one.memo[KEY]
        further = {} if after is None else after.memo[KEY]
        went = further.get("went", further.get("parent") == one.number if further else accepted(one, value))
        if memo["parent"] is None:
            found.append((one, None))
        else:
            found.append((one if went else by_number.get(memo["parent"], one), went))
        inner = ((number, goes) for number, goes in further.get("inner", ()) if number in by_number)
        found += [(by_number[number], None if goes is None else bool(goes)) for number, goes in inner]
    return found


def _settings(states: Sequence[Sequence[Past]]) -> tuple[list[str], list[str]]:
    """The names of the settings with labels and of those with numbers."""
    values: dict[str, list[Any]] = {}
    for state in (state for chain in states for state in chain):
        for name, value in state.settings.items():
            values.setdefault(name, []).append(value)
    numeric = {
        name: all(isinstance(value, int | float) and not isinstance(value, bool) for value in found)
        for name, found in values.items()
    }
    return [name for name in values if not numeric[name]], [name for name in values if numeric[name]]


def _transitions(states: Sequence[Sequence[Past]], name: str) -> dict[str, dict[str, int]]:
    """From option: to option: how often, where both states have the setting."""
    counts: Counter[tuple[str, str]] = Counter()
    for chain in states:
        for one, after in pairwise(chain):
            if name in one.settings and name in after.settings:
                counts[str(one.settings[name]), str(after.settings[name])] += 1
    found: dict[str, dict[str, int]] = {}
    for (one_option, other), count in sorted(counts.items()):
        found.setdefault(one_option, {})[other] = count
    return found


def _frequencies(states: Sequence[Sequence[Past]], name: str) -> dict[str, float]:
    counts = Counter(str(state.settings[name]) for chain in states for state in chain if name in state.settings)
    return {option: count / counts.total() for option, count in sorted(counts.items())}


def _along(states: Sequence[Sequence[Past]], name: str) -> list[list[float]]:
    return [[float(state.settings[name]) for state in chain if name in state.settings] for chain in states]


def _numbers(draws: Sequence[Sequence[float]]) -> Numbers | None:
    """The spread of draws, chain by chain; chains are compared over the length that all of them have."""
    known = [[draw for draw in chain if math.isfinite(draw)] for chain in draws]
    every = np.array([draw for chain in known for draw in chain])
    if not len(every):
        return None
    length = min(len(chain) for chain in known if chain)
    table = np.array([chain[-length:] for chain in known if chain])
    low, middle, high = (float(quartile) for quartile in np.quantile(every, [0.25, 0.5, 0.75]))
    return Numbers(
        float(every.mean()), float(every.std()), (low, middle, high), effective_sample_size(table), r_hat(table)
    )


def _words(
    draws: int,
    acceptance: float,
    memos: Sequence[Sequence[Mapping[str, Any]]],
    loss: Numbers | None,
    numbers: Mapping[str, Numbers],
) -> tuple[str, ...]:
    """What a person should know of the chains; what was tried before and was proposed again is a draw as well."""
    if not memos:
        return ("no chain has begun",)
    many = "chain" if len(memos) == 1 else "chains"
    found = [f"{len(memos)} {many} of {draws} draws, for which {sum(map(len, memos))} candidates were tried"]
    if not math.isnan(acceptance):
        last = ", ".join(f"{chain[-1]['step']:.2g}" for chain in memos)
        found.append(f"{acceptance:.0%} of proposals were accepted; the step came to {last} of a range")
    if loss is not None and not math.isnan(loss.size):
        found.append(f"the losses are worth {loss.size:.0f} independent draws")
    judged = {name: one for name, one in {"the loss": loss, **numbers}.items() if one and not math.isnan(one.agreement)}
    if judged:
        worst = max(judged, key=lambda name: judged[name].agreement)
        least = min(judged, key=lambda name: judged[name].size)
        settled = judged[worst].agreement < AGREEMENT and judged[least].size >= ENOUGH
        why = f"R-hat of {worst} is {judged[worst].agreement:.2f}, and {least} is worth {judged[least].size:.0f} draws"
        found.append(f"the chains {'have settled' if settled else 'have not settled'}: {why}")
    return tuple(found)
