"""Architectures are drawn inside the space, as a function of history and seed, and go the ordinary way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from modelmill.arch.cell import space as cell_space
from modelmill.contracts import Generator, Sampler
from modelmill.errors import SpecError
from modelmill.method import name_of
from modelmill.network.wiring import wiring
from modelmill.network.wiring_repair import canonical
from modelmill.search.generated import cell
from modelmill.search.generators.controller import Controller
from modelmill.search.generators.graphs import Graphs
from modelmill.search.generators.subnetworks import Subnetworks
from modelmill.search.generators.wirings import Wirings
from modelmill.search.samplers.grid import Grid
from modelmill.search.samplers.grid_incremental import GridIncremental
from modelmill.search.samplers.random import Random
from modelmill.search.suggest import Suggester
from modelmill.search.wirings import barabasi_albert, erdos_renyi, reads, watts_strogatz
from modelmill.space import Choose, Dimension, Space
from modelmill.spec import Goal, Spec, space
from modelmill.trial import Trial

GOAL = Goal(maximize=("accuracy",))
CELLS = space(
    Spec(
        data={"method": "builtin", "name": "digits"},
        arch=cell_space("image", nodes=4, operations=["conv3", "conv1", "max", "identity"], settings={"width": 8}),
        train={"method": "adam", "learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}},
    )
)


@pytest.mark.parametrize("sampler", [Grid(), GridIncremental()])
def test_a_sampler_that_sweeps_every_cell_is_refused_beside_a_generator(sampler: Sampler) -> None:
    with pytest.raises(SpecError, match=f"{name_of(type(sampler))} goes through every cell"):
        Suggester(CELLS, GOAL, sampler, 1, generator=Wirings())


def parts(choose: Choose) -> None:
    for i in range(4):
        choose(Dimension(f"arch.subnetwork.blocks.{i + 1}", options=(0, 1)))
        choose(Dimension(f"arch.subnetwork.widths.{i + 1}", low=0.25, high=1.0))


def score(number: int, settings: dict[str, Any]) -> Trial:
    """Many convolutions of 3 are good here."""
    good = sum(value == "conv3" for value in settings.values()) / 4 if "train.adam.learning_rate" in settings else 0.0
    good += sum(value for name, value in settings.items() if ".blocks." in name) / 4
    return Trial(number, "done", settings, metrics={"accuracy": good})


def play(suggester: Suggester, numbers: range) -> Iterator[Trial]:
    for number in numbers:
        suggestion = suggester.pick(number)
        assert suggestion is not None
        trial = Trial(number, "done", suggestion.settings, metrics=score(number, suggestion.settings).metrics)
        suggester.learn(Trial(number, "done", trial.settings, metrics=trial.metrics, memo=suggestion.memo))
        yield Trial(number, "done", trial.settings, metrics=trial.metrics, memo=suggestion.memo)


@pytest.mark.parametrize(
    ("generator", "walk"),
    [(Wirings(), CELLS), (Controller(), CELLS), (Graphs(), CELLS), (Subnetworks(startup=4), parts)],
    ids=["wirings", "controller", "graphs", "subnetworks"],
)
def test_draws_follow_from_history_and_seed_and_leave_the_rest_to_the_sampler(generator: Generator, walk: Any) -> None:
    def fresh() -> Suggester:
        return Suggester(walk, GOAL, Random(), 3, generator=generator)

    whole = list(play(fresh(), range(14)))
    resumed = fresh()
    for trial in whole[:8]:
        resumed.learn(trial)
    assert [*whole[:8], *play(resumed, range(8, 14))] == whole
    known = Space(walk)
    for trial in whole:
        assert [one.name for one in known.met(trial.settings)] == list(trial.settings)
    assert len({str(trial.settings) for trial in whole}) == 14


@pytest.mark.parametrize("generator", [Controller(), Graphs()], ids=["controller", "graphs"])
def test_generators_that_learn_come_to_draw_what_is_good(generator: Generator) -> None:
    trials = list(play(Suggester(CELLS, GOAL, Random(), 1, generator=generator), range(80)))
    late = np.mean([trial.metrics["accuracy"] for trial in trials[50:]])
    assert late > 0.45  # by chance 0.25


def test_subnetworks_begin_with_the_whole_and_the_smallest_then_breed() -> None:
    trials = list(play(Suggester(parts, GOAL, Random(), 1, generator=Subnetworks(startup=6)), range(40)))
    assert set(trials[0].settings.values()) == {1}
    assert set(trials[1].settings.values()) == {0, 0.25}
    assert np.mean([trial.metrics["accuracy"] for trial in trials[20:]]) > 0.8


def test_random_graphs_have_the_degrees_of_their_models() -> None:
    random = np.random.default_rng(0)
    ring = watts_strogatz(10, 4, 0.0, random)
    assert len(ring) == 20
    assert {sum(node in edge for edge in ring) for node in range(1, 11)} == {4}
    assert len(watts_strogatz(10, 4, 1.0, random)) == 20
    tree = barabasi_albert(50, 2, random)
    assert len(tree) == 2 * 48
    counts = [len(erdos_renyi(40, 0.3, random)) for _ in range(20)]
    assert np.mean(counts) == pytest.approx(0.3 * 40 * 39 / 2, rel=0.05)


def test_a_drawn_graph_becomes_the_cell_that_reads_it_says() -> None:
    spelled = cell(Space(CELLS))
    assert spelled.nodes == 4
    who = reads(4, {(1, 2), (1, 3), (2, 4), (3, 4)})
    settings = spelled.settings(["conv3", "conv1", "max", "conv3"], who)
    flags = [[settings.get(f"arch.cell.edges.{i}.{j}", 1) for j in range(1, i + 1)] for i in range(1, 6)]
    found = canonical(wiring(["conv3", "conv1", "max", "conv3"], flags))
    assert found.edges == 6  # input to 1, the four, and 4 to the output


def test_generators_refuse_an_arch_that_they_cannot_draw() -> None:
    def nothing(choose: Choose) -> None:
        choose(Dimension("train.adam.learning_rate", low=0.1, high=1.0))

    with pytest.raises(SpecError, match="arch"):
        Wirings()(Space(nothing))
    with pytest.raises(SpecError, match="edges"):
        Graphs()(Space(parts))
    with pytest.raises(SpecError, match="subnetwork"):
        Subnetworks()(Space(CELLS))


def test_equal_graphs_are_one_trial() -> None:
    def same(settings: dict[str, Any]) -> Any:
        return sorted(str(value) for value in settings.values())

    def two(choose: Choose) -> None:
        choose(Dimension("arch.a", options=("x", "y")))
        choose(Dimension("arch.b", options=("x", "y")))

    suggester = Suggester(two, GOAL, Random(), 0, same)
    found = [suggester.pick(number) for number in range(4)]
    assert [one is not None for one in found] == [True, True, True, False]
