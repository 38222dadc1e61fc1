"""Wirings: any can be mended, and two that are the same graph are written alike, and no others."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmill.errors import SpecError
from modelmill.network.wiring import Wiring, flags, wiring
from modelmill.network.wiring_repair import canonical, repair

OPERATIONS = ["conv3", "max", "identity"]


@st.composite
def wirings(draw: st.DrawFn, most: int = 6) -> Wiring:
    count = draw(st.integers(0, most))
    names = draw(st.lists(st.sampled_from(OPERATIONS), min_size=count, max_size=count))
    rows = [draw(st.lists(st.integers(-1, count + 1), max_size=4)) for _ in range(count + 1)]
    return Wiring(tuple(names), tuple(map(tuple, rows)))


def renumbered(given: Wiring, order: Sequence[int]) -> Wiring:
    """The same graph, its nodes in another order in which nothing is read before it is made."""
    number = {0: 0, **{i: place + 1 for place, i in enumerate(order)}}
    rows = [*(given.reads[i - 1] for i in order), given.reads[-1]]
    return Wiring(tuple(given.operations[i - 1] for i in order), tuple(tuple(number[i] for i in row) for row in rows))


def orders(given: Wiring) -> Iterator[tuple[int, ...]]:
    for order in itertools.permutations(range(1, len(given.operations) + 1)):
        made = {0}
        for i in order:
            if not made.issuperset(given.reads[i - 1]):
                break
            made.add(i)
        else:
            yield order


def forms(given: Wiring) -> set[Wiring]:
    """Every way to number the nodes."""
    found = (renumbered(given, order) for order in orders(given))
    return {Wiring(form.operations, tuple(tuple(sorted(row)) for row in form.reads)) for form in found}


@given(wirings(), st.integers(0, 8))
def test_a_mended_wiring_has_every_node_on_a_way_and_stays_as_it_is(given: Wiring, most: int) -> None:
    mended = repair(given, most)
    count = len(mended.operations)
    assert "identity" not in mended.operations
    assert all(row and all(0 <= i <= node for i in row) for node, row in enumerate(mended.reads))
    assert {i for row in mended.reads for i in row}.issuperset(range(1, count + 1))
    assert not most or mended.edges <= most
    assert repair(mended, most) == mended


@given(wirings(), st.integers(0, 6), st.randoms(use_true_random=False))
def test_one_graph_has_one_form_however_its_nodes_are_numbered(given: Wiring, most: int, random: object) -> None:
    mended = repair(given)
    found = list(forms(mended))
    shuffled = found[random.randrange(len(found))]  # type: ignore[attr-defined]
    assert canonical(shuffled, most) == canonical(given, most)
    assert canonical(shuffled) in found


@given(wirings(4))
def test_skips_that_are_nodes_and_nodes_that_nobody_reads_change_no_graph(given: Wiring) -> None:
    given = repair(given)
    rows = [tuple(i + 1 if i else 0 for i in row) for row in given.reads]
    skipped = Wiring(("identity", *given.operations), ((0,), *(tuple(i or 1 for i in row) for row in rows)))
    unread = Wiring(("identity", *given.operations), ((0,), *rows))
    backwards = Wiring(given.operations, tuple((*row, 99, -5) for row in given.reads))
    assert canonical(given) == canonical(skipped) == canonical(unread) == canonical(backwards)


def test_all_graphs_of_three_nodes_are_told_apart_as_by_trying_every_order() -> None:
    rows = [list(itertools.product((0, 1), repeat=i + 1)) for i in range(4)]
    all_of_them = [wiring(("a", "b", "a"), edges) for edges in itertools.product(*rows)]
    by_trial = {min(forms(repair(each)), key=lambda form: (form.operations, form.reads)) for each in all_of_them}
    assert len({canonical(each) for each in all_of_them}) == len(by_trial)


def test_cells_of_two_convolutions_are_counted_by_hand() -> None:
    rows = [[(1,)], *(list(itertools.product((0, 1), repeat=i + 1)) for i in (1, 2))]
    found = {canonical(wiring(("a", "a"), edges)) for edges in itertools.product(*rows)}
    # Side by side, with or without a shortcut: 2. One behind the other: the second, and the output, may each read the
    # input too, and the output the first: 2 * 2 * 2.
    assert len(found) == 10


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Wiring(("a", "a"), ((0,), (1,), (2,))), Wiring(("a", "a"), ((0,), (0,), (1, 2)))),
        (Wiring(("a", "b"), ((0,), (1,), (2,))), Wiring(("b", "a"), ((0,), (1,), (2,)))),
        (Wiring(("a",), ((0,), (1,))), Wiring(("a",), ((0,), (0, 1)))),
    ],
)
def test_different_graphs_have_different_forms(first: Wiring, second: Wiring) -> None:
    assert canonical(first) != canonical(second)


def ring(*sizes: int) -> Wiring:
    """Nodes in two layers, each of the second on two neighbours of the first, in rings."""
    half = sum(sizes)
    rows, start = [], 0
    for size in sizes:
        rows += [(start + i + 1, start + (i + 1) % size + 1) for i in range(size)]
        start += size
    return Wiring(("a",) * 2 * half, (*((0,) for _ in range(half)), *rows, tuple(range(half + 1, 2 * half + 1))))


def test_graphs_that_refinement_alone_cannot_tell_apart_are_told_apart() -> None:
    one, two = ring(4), ring(2, 2)
    assert {len(row) for row in one.reads[4:8]} == {len(row) for row in two.reads[4:8]} == {2}
    assert canonical(one) != canonical(two)
    turned = renumbered(one, (3, 1, 4, 2, 8, 6, 5, 7))
    assert canonical(turned) == canonical(one)


def test_many_equal_branches_are_no_burden() -> None:
    chains = 12
    rows = (
        *((0,) for _ in range(chains)),
        *((i + 1,) for i in range(chains)),
        tuple(range(chains + 1, 2 * chains + 1)),
    )
    given = Wiring(("a",) * 2 * chains, rows)
    assert canonical(given).edges == given.edges


@pytest.mark.parametrize(
    ("most", "wanted"),
    [
        (5, Wiring(("a", "b"), ((0,), (0, 1), (0, 2)))),
        (4, Wiring(("a", "b"), ((0,), (0, 1), (2,)))),
        (3, Wiring(("a", "b"), ((0,), (1,), (2,)))),
        (2, Wiring(("a",), ((0,), (1,)))),
        (1, Wiring((), ((0,),))),
    ],
)
def test_shortcuts_go_first_then_nodes(most: int, wanted: Wiring) -> None:
    assert repair(Wiring(("a", "b"), ((0,), (0, 1), (0, 1, 2))), most) == wanted


def test_flags_and_wirings_say_the_same() -> None:
    given = Wiring(("a", "b"), ((0,), (0, 1), (2,)))
    assert wiring(given.operations, flags(given)) == given


def test_a_row_of_edges_for_every_node_is_wanted() -> None:
    with pytest.raises(SpecError, match="2 operations and 2 rows of edges do not fit"):
        wiring(["a", "b"], [[1], [1, 0]])
