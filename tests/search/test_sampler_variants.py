"""Variants: good trials with other settings of what comes after training, and nothing else changed."""

from modelmill.history import Past
from modelmill.search.samplers.portfolio import Portfolio
from modelmill.search.samplers.variants import Variants
from modelmill.search.seeds import derive
from modelmill.space import Dimension, Space

LATE = ("prune", "ratio", "quantize")


def walk(choose):
    choose(Dimension("width", low=1, high=64, integer=True))
    if choose(Dimension("prune", options=(False, True), late=True)):
        choose(Dimension("ratio", options=(0.1, 0.5), late=True))
    choose(Dimension("quantize", options=(False, True), late=True))


def early(choose):
    choose(Dimension("width", low=1, high=64, integer=True))


def done(number, width, loss, misses=0.0, **late):
    return Past(number, {"width": width, "prune": False, "quantize": False, **late}, "done", (loss,), misses)


def test_a_variant_differs_from_a_good_trial_in_late_settings_alone_and_shares_its_training():
    history = [done(i, i + 1, float(i)) for i in range(20)]
    pick = Variants(good=3)(Space(walk))
    for seed in range(30):
        found = pick(history, seed)
        assert found.like in (0, 1, 2)
        parent = history[found.like].settings
        assert found.settings["width"] == parent["width"]
        assert {name: found.settings.get(name) for name in LATE} != {name: parent.get(name) for name in LATE}


def test_the_variant_of_a_variant_shares_the_training_of_the_first():
    history = [done(0, 3, 1.0), Past(1, {"width": 3, "prune": False, "quantize": True}, "done", (0.5,), like=0)]
    assert {Variants(good=1)(Space(walk))(history, seed).like for seed in range(10)} == {0}


def test_every_variant_comes_once_and_then_none():
    history = [done(0, 3, 1.0)]
    pick = Variants()(Space(walk))
    while found := pick(history, derive(0, "pick", len(history))):
        assert found.settings not in [one.settings for one in history]
        history.append(Past(len(history), found.settings, "done", (2.0,), like=found.like))
    assert len(history) == 6
    assert {one.settings["width"] for one in history} == {3}


def test_one_that_misses_a_limit_may_keep_it_when_it_is_compressed():
    assert Variants()(Space(walk))([done(0, 3, 1.0, misses=0.5)], 1).like == 0


def test_a_portfolio_leaves_it_out_where_nothing_comes_after_training():
    history = [done(i, i + 1, float(i)) for i in range(20)]
    members = Portfolio(members=("random", "variants"))
    asked = [members(Space(walk))(history, seed).memo["member"] for seed in range(20)]
    assert set(asked) == {"random", "variants"}
    plain = [Past(i, {"width": i + 1}, "done", (float(i),)) for i in range(20)]
    alone = [members(Space(early))(plain, seed) for seed in range(20)]
    assert {found.memo["member"] for found in alone} == {"random"}
