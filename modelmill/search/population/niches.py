"""A population in which several optima stay alive: every one climbs alone, and a child competes with its like.

Asking and telling are functions of a state in the open, for one child at a time or for many at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from modelmill.search.population.verdict import beats, standing

Array = np.ndarray[Any, Any]

Keep = Literal["crowding", "sharing", "clearing"]
RADIUS: dict[str, float] = {"crowding": 0.005, "sharing": 0.1, "clearing": 0.1}
"""The distance within which two are taken to be at the same optimum, where nothing else is asked."""

UP, DOWN = 2.0, 0.84
"""What a success and a failure do to the length of a step: it stays where one of five succeeds."""


@dataclass(frozen=True, eq=False)
class Ground:
    """What kind of coordinates points have, and how a population is kept on them."""

    category: Array
    """(n,) whether a coordinate stands for options without an order."""
    grain: Array
    """(n,) how far apart neighbouring values lie; 0 where every number counts."""
    size: int
    keep: Keep = "crowding"
    radius: float = RADIUS["crowding"]
    rest: float = 1e-6
    """The length of a step below which there is nothing more to climb."""


@dataclass(frozen=True, eq=False)
class Niches:
    """The population."""

    points: Array
    """(members, n), NaN where a coordinate is not met."""
    verdicts: Array
    """(members, 1 + losses), as `verdict` gives them."""
    steps: Array
    """(members,), how far the next step of each goes."""
    born: Array
    """(members,), a number that tells it from all others before and after."""
    spare: Array
    """(members,), whether a better one stands at the same optimum."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Children that wait for their verdict."""

    points: Array
    """(children, n), NaN where something has to be picked."""
    parents: Array
    """(children,), the number of the member that each is a step from; -1 for those that start anew."""


def start(ground: Ground, losses: int = 1) -> Niches:
    """Nobody."""
    none = np.zeros(0)
    return Niches(
        np.zeros((0, len(ground.grain))), np.zeros((0, 1 + losses)), none, none.astype(int), none.astype(bool)
    )


def ask(state: Niches, ground: Ground, draw: np.random.Generator, count: int) -> Batch:
    """The next children: random ones until there is a population, then half steps of members and half recombined."""
    n, members = len(ground.grain), len(state.points)
    if members < ground.size:
        return Batch(draw.random((count, n)), np.full(count, -1))
    climbing = draw.permutation(np.flatnonzero((state.steps > ground.rest) & ~state.spare))
    wanted = int(count / 2 + draw.random())
    ranks = standing(state.verdicts)
    few = climbing[: 2 * wanted]
    parents = few[np.argsort(ranks[few], kind="stable")[:wanted]]
    steps = _step(state, ground, parents, draw)
    mixed = _mix(state, ground, ranks, count - len(parents), draw)
    return Batch(
        np.concatenate([steps, mixed]), np.concatenate([state.born[parents], np.full(count - len(parents), -1)])
    )


def _step(state: Niches, ground: Ground, parents: Array, draw: np.random.Generator) -> Array:
    """Children a step away: numbers by a normal draw, values with a grain one or more of them, some of the time."""
    at, steps, grain = state.points[parents], state.steps[parents, None], ground.grain
    normal, chance = draw.standard_normal(at.shape), draw.random(at.shape)
    coarse = grain > 0
    # a space of coarse coordinates alone moves one of them at least
    chance[np.arange(len(at)), draw.integers(max(at.shape[1], 1), size=len(at))] *= not (~coarse).any()
    moves = chance < 1 / max(int(coarse.sum()), 1)
    jumps = np.sign(normal) * (grain + np.abs(normal) * steps * ~ground.category)
    found = np.clip(np.where(coarse, at + moves * jumps, at + steps * normal), 0.0, 1.0)
    options = np.maximum(np.rint(1 / np.where(coarse, grain, 1.0)), 1)
    shift = np.where(options > 1, 1 + np.floor(draw.random(at.shape) * (options - 1)), 0) / options
    return np.where(ground.category, np.where(moves, (at + shift) % 1.0, at), found)


def _mix(state: Niches, ground: Ground, ranks: Array, count: int, draw: np.random.Generator) -> Array:
    """Children of two: each coordinate from one or the other; of some, the difference of two is added to a third."""
    one, two, other = (_tournament(ranks, count, draw) for _ in range(3))
    shape = (count, len(ground.grain))
    side = draw.random(shape) < 0.5
    a, b, c = state.points[one], state.points[two], state.points[other]
    plain = np.where(side, a, b)
    sums = np.where(side | ground.category, plain, a + b - c)
    line = np.where(ground.category, plain, a + (b - a) * draw.uniform(-0.5, 1.5, shape))
    found = np.where((draw.random(count) < 0.3)[:, None], sums, plain)
    found = np.where((_same(found, a) | _same(found, b))[:, None], line, found)
    found = np.where(np.isnan(found), np.where(np.isnan(plain), np.where(np.isnan(a), b, a), plain), found)
    anew = draw.random(shape)
    found = np.where((found < 0) | (found > 1), anew, found)
    known = _same(found, a) | _same(found, b) | (draw.random(count) < 0.05)
    return np.asarray(np.where(known[:, None], anew, found))


def _same(one: Array, two: Array) -> Array:
    return np.asarray(((one == two) | (np.isnan(one) & np.isnan(two))).all(axis=1))


def _tournament(ranks: Array, count: int, draw: np.random.Generator) -> Array:
    one, two = draw.integers(len(ranks), size=(2, count))
    return np.asarray(np.where(ranks[one] <= ranks[two], one, two))


def tell(state: Niches, ground: Ground, batch: Batch, verdicts: Array, first: int) -> Niches:
    """The population after the children's verdicts; they are numbered on from `first`."""
    born = np.arange(first, first + len(batch.points))
    if ground.keep != "crowding":
        return _survivors(state, ground, batch, verdicts, born)
    room = max(ground.size - len(state.points), 0)
    state = _joined(state, ground, batch.points[:room], verdicts[:room], born[:room])
    rest = Batch(batch.points[room:], batch.parents[room:])
    return _crowded(state, ground, rest, verdicts[room:], born[room:]) if len(rest.points) else state


def _joined(state: Niches, ground: Ground, points: Array, verdicts: Array, born: Array) -> Niches:
    steps = np.full(len(points), 0.3 * ground.size ** (-1 / max(len(ground.grain), 1)))
    return Niches(
        np.concatenate([state.points, points]),
        np.concatenate([state.verdicts, verdicts]),
        np.concatenate([state.steps, steps]),
        np.concatenate([state.born, born]),
        np.concatenate([state.spare, np.zeros(len(points), bool)]),
    )


def _crowded(state: Niches, ground: Ground, batch: Batch, verdicts: Array, born: Array) -> Niches:
    """A step replaces its parent if it is better; a new start its nearest, or else one that is to spare."""
    state = Niches(*(field.copy() for field in (state.points, state.verdicts, state.steps, state.born, state.spare)))
    slots = {number: i for i, number in enumerate(state.born.tolist())}
    parents = np.array([slots.get(number, -1) for number in batch.parents.tolist()])
    stepped = np.flatnonzero(parents >= 0)
    members = parents[stepped]
    won = beats(verdicts[stepped], state.verdicts[members])
    winners, children = members[won], stepped[won]
    state.points[winners], state.verdicts[winners] = batch.points[children], verdicts[children]
    state.steps[members] = np.minimum(state.steps[members] * np.where(won, UP, DOWN), 0.3)
    ranks = standing(state.verdicts)
    close = members[state.steps[members] < ground.radius]
    near = distances(state.points[close], state.points, ground.category) < ground.radius
    state.spare[close] = (near & (ranks[None, :] < ranks[close, None])).any(axis=1)
    _admit(state, ground, ranks, np.flatnonzero(parents < 0), batch.points, verdicts, born)
    return state


def _admit(
    state: Niches, ground: Ground, ranks: Array, anew: Array, points: Array, verdicts: Array, born: Array
) -> None:
    """Let new starts in, the best first; `state` is changed."""
    anew = anew[np.argsort(standing(verdicts[anew]), kind="stable")]
    far = distances(points[anew], state.points, ground.category)
    nearest, gap = far.argmin(axis=1), far.min(axis=1)
    better = beats(verdicts[anew], state.verdicts[nearest])
    ready = np.flatnonzero(state.spare | (state.steps <= ground.rest))
    ready = ready[np.lexsort((-ranks[ready], ~state.spare[ready]))]
    taken = set[int]()
    for i, child in enumerate(anew):
        slot = int(nearest[i])
        if not better[i] or slot in taken:
            slot = next((int(one) for one in ready if one not in taken), -1)
            if gap[i] < ground.radius or slot < 0:
                continue
            if not state.spare[slot] and not beats(verdicts[child][None], state.verdicts[slot][None])[0]:
                continue
        taken.add(slot)
        state.points[slot], state.verdicts[slot], state.born[slot] = points[child], verdicts[child], born[child]
        state.steps[slot], state.spare[slot] = np.clip(0.3 * gap[i], 1e-3, 0.1), False


def _survivors(state: Niches, ground: Ground, batch: Batch, verdicts: Array, born: Array) -> Niches:
    """Those of members and children that are good for how many there are around them."""
    slots = {number: i for i, number in enumerate(state.born.tolist())}
    steps = state.steps.copy()
    count = len(state.points)
    joined = _joined(state, ground, batch.points, verdicts, born)
    for i, number in enumerate(batch.parents.tolist()):
        if number in slots:
            won = bool(beats(verdicts[i][None], state.verdicts[slots[number]][None])[0])
            steps[slots[number]] = min(steps[slots[number]] * (UP if won else DOWN), 0.3)
            joined.steps[count + i] = steps[slots[number]]
    joined.steps[:count] = steps
    kept = np.sort(np.argsort(-worth(joined, ground), kind="stable")[: ground.size])
    return Niches(joined.points[kept], joined.verdicts[kept], joined.steps[kept], joined.born[kept], joined.spare[kept])


def worth(state: Niches, ground: Ground) -> Array:
    """(members,) how good each is for its niche, by its rank from 1 to 4: shared with those around it, or a winner's.

    Goldberg, Richardson (1987), Genetic algorithms with sharing for multimodal function optimization; Petrowski (1996),
    https://doi.org/10.1109/ICEC.1996.542703
    """
    ranks = standing(state.verdicts)
    fitness = 4 - 3 * ranks / max(len(ranks) - 1, 1)
    far = distances(state.points, state.points, ground.category)
    if ground.keep == "sharing":
        return np.asarray(fitness / np.maximum(1 - far / ground.radius, 0).sum(axis=1))
    cleared = np.zeros(len(ranks), bool)
    for i in np.argsort(ranks):
        if not cleared[i]:
            cleared |= (far[i] < ground.radius) & (ranks > ranks[i])
    return np.asarray(fitness * ~cleared)


def distances(one: Array, two: Array, category: Array) -> Array:
    """(rows of one, rows of two) the mean difference of coordinates, categories equal or not; 1 where one lacks it.

    Gower (1971), https://doi.org/10.2307/2528823
    """
    total = np.zeros((len(one), len(two)))
    lacking = bool(np.isnan(one).any() or np.isnan(two).any())
    count = np.full_like(total, max(one.shape[1], 1))
    for a, b, kind in zip(one.T, two.T, category, strict=True):
        gap = np.abs(a[:, None] - b[None, :])
        gap = (gap > 1e-9).astype(float) if kind else gap
        if lacking:
            none, some = np.isnan(a)[:, None] & np.isnan(b)[None, :], np.isnan(a)[:, None] ^ np.isnan(b)[None, :]
            gap = np.where(none, 0.0, np.where(some, 1.0, gap))
            count -= none
        total += gap
    return np.asarray(total / np.maximum(count, 1))


def optimize(loss: Callable[[Array], Array], n: int, evaluations: int, population: int, seed: int) -> Niches:
    """The niches of a function of points (rows, n) between 0 and 1 after so many evaluations; lower is better."""
    ground = Ground(np.zeros(n, bool), np.zeros(n), population)
    draw, state, spent = np.random.default_rng(seed), start(ground), 0
    while spent < evaluations:
        fill = population - len(state.points)
        batch = ask(state, ground, draw, min(fill or max(population // 4, 8), evaluations - spent))
        losses = np.asarray(loss(batch.points), float)
        state = tell(state, ground, batch, np.stack([np.zeros_like(losses), losses], axis=1), first=spent)
        spent += len(losses)
    return state
