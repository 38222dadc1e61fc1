"""One order for the nodes of a wiring, so that equal graphs are written alike, however they were numbered."""

from __future__ import annotations

from collections.abc import Sequence

from modelmill.network.wiring import Wiring

Colors = tuple[int, ...]
"""For every value, and last the output, the place of its class: equal numbers could not be told apart so far."""


def ordered(wiring: Wiring) -> Wiring:
    """The nodes by depth, then by operation, then as edges and a search over what is left equal tell them apart."""
    return min(_forms(wiring, _start(wiring)), key=lambda form: (form.operations, form.reads))


def _start(wiring: Wiring) -> Colors:
    """Classes by the longest way from the input, and by operation."""
    depth = [0]
    for row in wiring.reads:
        depth.append(1 + max((depth[i] for i in row), default=0))
    depth[-1] = len(depth)
    return _ranks(list(zip(depth, ("", *wiring.operations, ""), strict=True)))


def _ranks(keys: Sequence[object]) -> Colors:
    place = {key: i for i, key in enumerate(sorted(set(keys)))}  # type: ignore[type-var]
    return tuple(place[key] for key in keys)


def _refined(wiring: Wiring, colors: Colors) -> Colors:
    """Classes split by the classes of what is read and of who reads, until nothing changes (Weisfeiler-Lehman)."""
    given = ((), *wiring.reads)
    readers = [[node for node, row in enumerate(given) if i in row] for i in range(len(given))]
    while True:
        keys = [
            (colors[i], sorted(colors[j] for j in given[i]), sorted(colors[j] for j in readers[i]))
            for i in range(len(given))
        ]
        finer = _ranks([(color, tuple(read), tuple(by)) for color, read, by in keys])
        if len(set(finer)) == len(set(colors)):
            return finer
        colors = finer


def _forms(wiring: Wiring, colors: Colors) -> set[Wiring]:
    """Every way to write the wiring that the classes allow, each once.

    A class of several is split at each of its members in turn. Where the first way that follows has been met, the
    member is the mirror image of another: all that follows has been met too.
    """
    colors = _refined(wiring, colors)
    tied = _tied(colors)
    if not tied:
        return {_written(wiring, colors)}
    found: set[Wiring] = set()
    for member in tied:
        split = _split(colors, member)
        if not found or _first(wiring, split) not in found:
            found |= _forms(wiring, split)
    return found


def _first(wiring: Wiring, colors: Colors) -> Wiring:
    colors = _refined(wiring, colors)
    while tied := _tied(colors):
        colors = _refined(wiring, _split(colors, tied[0]))
    return _written(wiring, colors)


def _tied(colors: Colors) -> list[int]:
    """The members of the first class of several."""
    color = min((color for color in colors if colors.count(color) > 1), default=None)
    return [i for i, other in enumerate(colors) if other == color]


def _split(colors: Colors, member: int) -> Colors:
    """The same classes, with one member before the others of its own."""
    return tuple(2 * color - (i == member) for i, color in enumerate(colors))


def _written(wiring: Wiring, colors: Colors) -> Wiring:
    order = sorted(range(1, len(wiring.operations) + 1), key=lambda i: colors[i])
    number = {0: 0, **{i: place + 1 for place, i in enumerate(order)}}
    rows = [*(wiring.reads[i - 1] for i in order), wiring.reads[-1]]
    return Wiring(
        tuple(wiring.operations[i - 1] for i in order), tuple(tuple(sorted(number[j] for j in row)) for row in rows)
    )
