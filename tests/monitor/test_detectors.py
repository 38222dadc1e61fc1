"""Detectors: scipy's figures, states that survive JSON, and alarms that are rare where nothing changed."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from modelmill.errors import OutOfBounds
from modelmill.method import decode, names
from modelmill.monitor import chance
from modelmill.monitor.detectors.chi_square import ChiSquare
from modelmill.monitor.detectors.fisher import Fisher
from modelmill.monitor.detectors.ks import Ks
from modelmill.monitor.detectors.psi import Psi
from modelmill.monitor.tally import folded, tally

RNG = np.random.default_rng(7)


def told(detector, reference, window):
    state = detector.start(reference)
    assert json.loads(json.dumps(state)) == state
    after, finding = detector.step(json.loads(json.dumps(state)), window)
    assert after == state
    return finding


def test_the_family_is_found_by_its_key():
    assert {"chi_square", "fisher", "ks", "psi"} <= set(names("detector"))
    assert decode("detector", {"method": "ks", "level": 0.05}) == Ks(level=0.05)
    with pytest.raises(OutOfBounds, match=r"ks\.level"):
        Ks(level=0)


@pytest.mark.parametrize(("first", "second", "shift"), [(80, 200, 0.0), (100, 100, 0.3), (60, 500, 1.0)])
def test_the_gap_of_few_numbers_is_that_of_scipy(first, second, shift):
    reference, window = RNG.normal(size=first), RNG.normal(shift, size=second)
    wanted = stats.ks_2samp(reference, window, method="asymp")
    found = told(Ks(level=1), reference, window).figures
    assert found["gap"] == pytest.approx(wanted.statistic, abs=1e-12)
    assert found["p"] == pytest.approx(wanted.pvalue, rel=0.1)


def test_the_gap_of_many_numbers_is_short_of_scipys_by_a_hundredth_at_most():
    reference, window = RNG.normal(size=20_000), RNG.normal(0.2, 1.2, size=3000)
    wanted = stats.ks_2samp(reference, window, method="asymp").statistic
    assert wanted - 0.0102 <= told(Ks(level=1), reference, window).figures["gap"] <= wanted + 1e-12


def test_ties_and_gaps_in_numbers_are_kept_apart():
    reference = np.array([1.0, 1, 1, 2, np.nan, 3])
    finding = told(Ks(level=1), reference, np.array([1.0, 2, 2, 2, np.nan]))
    assert finding.figures["gap"] == pytest.approx(stats.ks_2samp([1, 1, 1, 2, 3], [1, 2, 2, 2]).statistic)


@pytest.mark.parametrize("reach", [0.25, 0.8, 1.36, 2.5])
def test_kolmogorovs_tail_is_scipys(reach):
    rows = 10**9
    root = np.sqrt(rows / 2)
    assert chance.kolmogorov(reach / root, rows, rows) == pytest.approx(stats.kstwobign.sf(reach), rel=1e-3)


@pytest.mark.parametrize("freedom", [1, 2, 3, 8, 99])
@pytest.mark.parametrize("statistic", [0.1, 4.0, 30.0, 300.0])
def test_the_tail_of_chi_square_is_scipys(statistic, freedom):
    assert chance.chi_square(statistic, freedom) == pytest.approx(stats.chi2.sf(statistic, freedom), rel=1e-9)


@pytest.mark.parametrize(
    "table", [(8, 10, 1, 6), (0, 1000, 4, 100), (5, 1000, 4, 100), (300, 900, 50, 200), (3, 9, 3, 9)]
)
def test_fishers_chance_is_scipys(table):
    hits, rows, more, others = table
    wanted = stats.fisher_exact([[hits, rows - hits], [more, others - more]]).pvalue
    assert chance.fisher(*table) == pytest.approx(wanted, rel=1e-9)


def test_corrected_chances_are_scipys():
    chances = RNG.uniform(size=30) ** 3
    assert chance.adjusted(list(chances)) == pytest.approx(stats.false_discovery_control(chances).tolist())
    assert chance.adjusted([]) == []


def test_chi_square_of_frequent_categories_is_scipys():
    reference = RNG.choice(["a", "b", "c"], 400, p=[0.5, 0.3, 0.2]).astype(object)
    window = RNG.choice(["a", "b", "c"], 200, p=[0.4, 0.3, 0.3]).astype(object)
    wanted = stats.chi2_contingency([[(side == name).sum() for name in "abc"] for side in (reference, window)])
    found = told(ChiSquare(level=1), reference, window).figures
    assert found["statistic"] == pytest.approx(wanted.statistic)
    assert found["p"] == pytest.approx(wanted.pvalue)


def test_rare_categories_are_put_together_until_enough_may_be_expected():
    cells = {"a": (90, 80), "b": (6, 10), "c": (3, 5), "d": (1, 0), "e": (0, 5)}
    assert folded(cells, 5).tolist() == [[4, 10], [6, 10], [90, 80]]
    assert folded(dict.fromkeys("abcdef", (1, 0)) | {"g": (0, 6)}, 2).tolist() == [[6, 0], [0, 6]]
    assert folded({"a": (2, 1), "b": (1, 1)}, 5).tolist() == [[3, 2]]


def test_only_the_most_frequent_categories_are_counted_one_by_one():
    values = np.array(["a"] * 5 + ["b"] * 3 + ["c"] * 2 + ["d"], object)
    # The first, third, ... row: a a a b c d; the others: a a b b c.
    assert tally(values, most=2) == {"counts": {"a": 2, "b": 2}, "rest": 1, "unseen": 1}


def test_psi_of_deciles_is_that_of_the_textbook():
    reference = np.arange(1000.0)
    finding = told(Psi(), reference, reference[:500])
    # Of ten bins of 0.1, five hold 0.2 now, and five hold nothing, counted as half a row.
    wanted = 5 * 0.1 * np.log(2) + 5 * (0.001 - 0.1) * np.log(0.001 / 0.1)
    assert finding.figures["psi"] == pytest.approx(wanted, rel=1e-9)


def test_psi_of_few_rows_is_not_told():
    assert told(Psi(), RNG.normal(size=1000), RNG.normal(3, size=499)) is None
    assert told(Psi(), RNG.normal(size=1000), RNG.normal(3, size=500)) is not None


@pytest.mark.parametrize("detector", [Ks(), ChiSquare(), Fisher(), Psi()])
def test_empty_sides_are_never_drift(detector):
    kind = {"Ks": float, "Psi": float, "ChiSquare": object, "Fisher": bool}[type(detector).__name__]
    some, none = np.ones(600, kind), np.empty(0, kind)
    for reference, window in ((some, none), (none, some), (none, none)):
        assert told(detector, reference, window) is None


def numbers(rng, rows):
    return rng.normal(size=rows)


def whole(rng, rows):
    return rng.poisson(2, rows).astype(float)


def categories(rng, rows):
    return np.array(["abcdefgh"[i] for i in rng.integers(0, 8, rows)], object)


def long_tail(rng, rows):
    return rng.zipf(1.5, rows).astype(str).astype(object)


def rare(rng, rows):
    return rng.uniform(size=rows) < 0.02


@pytest.mark.parametrize(
    ("detector", "draw"),
    [
        (Ks(level=0.05), numbers),
        (Ks(level=0.05), whole),
        (ChiSquare(level=0.05), categories),
        (ChiSquare(level=0.05), long_tail),
        (Fisher(level=0.05), rare),
        (Psi(), numbers),
    ],
)
@pytest.mark.parametrize("rows", [100, 600])
def test_where_nothing_changed_alarms_are_as_rare_as_asked(detector, draw, rows):
    rng = np.random.default_rng(11)
    runs = 300
    alarms = sum(detector.step(detector.start(draw(rng, 500)), draw(rng, rows))[1] is not None for _ in range(runs))
    # 0.05 and three standard errors of 300 runs
    assert alarms / runs <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize(
    ("detector", "draw", "other"),
    [
        (Ks(), numbers, lambda rng, rows: numbers(rng, rows) + 1),
        (ChiSquare(), categories, long_tail),
        (Fisher(), rare, lambda rng, rows: rng.uniform(size=rows) < 0.2),
        (Psi(), numbers, lambda rng, rows: 2 * numbers(rng, rows)),
    ],
)
def test_what_changed_is_told(detector, draw, other):
    rng = np.random.default_rng(5)
    assert told(detector, draw(rng, 1000), other(rng, 500)) is not None


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60),
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60),
    st.integers(2, 20),
)
@settings(max_examples=40, deadline=None)
def test_a_sketch_never_makes_the_gap_wider(reference, window, edges):
    shares = [[np.mean(np.array(side) <= edge) for edge in reference + window] for side in (reference, window)]
    exact = np.abs(np.subtract(*shares)).max()
    found = told(Ks(level=1, edges=edges), np.array(reference), np.array(window)).figures["gap"]
    assert found <= exact + 1e-12
