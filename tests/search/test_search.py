"""A search keeps its budget, records what goes wrong, and prefers what keeps the limits."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from child_search import setup as set_up_child
from child_search import walk as child_walk

from modelmill.contracts import Pick, Sampler
from modelmill.errors import GoalError, ModelError, SpecError, WorkError
from modelmill.execute.local import Pool
from modelmill.execute.message import Message
from modelmill.history import History, Suggestion
from modelmill.search.ledger.ledger import Ledger
from modelmill.search.samplers.grid import Grid
from modelmill.search.samplers.random import Random
from modelmill.search.search import Study, search
from modelmill.search.stoppers.median import Median
from modelmill.space import Choose, Dimension, Space
from modelmill.spec import Budget, Goal
from modelmill.store.database import Database
from modelmill.trial import Trial

Job = Callable[[Mapping[str, Any]], Iterator[Any]]


class Inline:
    """Runs jobs in this process, a step of each a call: what a search needs of a pool."""

    def __init__(self, job: Job, workers: int = 1) -> None:
        self.job = job
        self.workers = workers
        self.jobs: dict[str, Iterator[Any]] = {}
        self.last: dict[str, Any] = {}
        self.payloads: list[Mapping[str, Any]] = []
        self.is_paused = False
        self.said: list[Message] = []

    @property
    def free(self) -> int:
        return self.workers - len(self.jobs)

    def submit(self, job: str, payload: Any) -> None:
        self.payloads.append(payload)
        self.jobs[job] = self.job(payload)

    def messages(self, timeout_s: float) -> Iterator[Message]:
        said, self.said = self.said, []
        yield from said
        for job, steps in list(self.jobs.items()):
            yield self._step(job, steps)

    def _step(self, job: str, steps: Iterator[Any]) -> Message:
        try:
            self.last[job] = next(steps)
        except StopIteration:
            del self.jobs[job]
            return Message(job, "result", self.last[job], seconds=0.5)
        except ValueError as error:
            del self.jobs[job]
            return Message(job, "error", error=str(error), reason="raised")
        return Message(job, "progress", self.last[job])

    def cancel(self, job: str, grace_s: float = 0.0) -> None:
        del self.jobs[job]
        self.said.append(Message(job, "error", error="called off", reason="cancelled"))

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        self.is_paused = True
        yield
        self.is_paused = False


def walk(choose: Choose) -> None:
    choose(Dimension("x", low=0.0, high=1.0, default=0.5))


def grow(payload: Mapping[str, Any]) -> Iterator[Any]:
    x = payload["settings"]["x"]
    yield {"step": 1, "values": {"valid_accuracy": x}}
    yield {"metrics": {"accuracy": x}, "costs": {"size_bytes": 1000.0}, "artifact": b"graph", "notes": ["made"]}


def fails(payload: Mapping[str, Any]) -> Iterator[Any]:
    raise ValueError("this never works")
    yield


def judge(result: Mapping[str, Any]) -> dict[str, float]:
    return {"latency_ms": result["metrics"]["accuracy"]}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    database = Database(f"sqlite:///{tmp_path}/ledger.db")
    yield Ledger.open(database, "key", {})[0]
    database.close()


STUDY = Study(walk, Goal(maximize=("accuracy",)), Random(), budget=Budget(trials=6))


def study(**changes: Any) -> Study:
    import dataclasses

    return dataclasses.replace(STUDY, **changes)


def keep(artifact: bytes) -> str:
    return f"digest of {artifact.decode()}"


def run(study: Study, grow: Any, ledger: Ledger, judge: Any = judge) -> list[Trial]:
    """The trials as they ended."""
    return [trial for trial in search(study, grow, judge, keep, ledger) if trial.state != "running"]


@pytest.mark.parametrize("workers", [1, 3])
def test_a_budget_in_trials_is_kept_and_every_trial_is_in_the_ledger(ledger: Ledger, workers: int) -> None:
    trials = run(STUDY, Inline(grow, workers), ledger)
    assert [trial.number for trial in trials] == list(range(6))
    assert ledger.trials() == trials
    first = trials[0]
    assert first.metrics == {"accuracy": first.settings["x"]}
    assert first.costs == {"size_bytes": 1000.0, "latency_ms": first.settings["x"]}
    assert (first.artifact, first.notes, len(first.curve)) == ("digest of graph", ("made",), 1)


class Thinks(Sampler):
    """Has two settings at once, and a third only when it knows what came of both."""

    def __call__(self, space: Space) -> Pick:
        def pick(history: History, seed: int) -> Suggestion | None:
            known = len(history) < 2 or (len(history) == 2 and all(one.state == "done" for one in history))
            return Suggestion({"x": len(history) / 10}) if known else None

        return pick


@pytest.mark.parametrize("workers", [1, 3])
def test_a_sampler_that_has_nothing_while_trials_run_is_asked_again_when_they_ended(
    ledger: Ledger, workers: int
) -> None:
    trials = run(study(sampler=Thinks()), Inline(grow, workers), ledger)
    assert sorted(trial.settings["x"] for trial in trials) == [0.0, 0.1, 0.2]


def test_a_running_trial_is_seen_as_its_curve_grows(ledger: Ledger) -> None:
    seen = list(search(study(budget=Budget(trials=1)), Inline(grow), judge, keep, ledger))
    assert [(trial.state, len(trial.curve)) for trial in seen] == [("running", 0), ("running", 1), ("done", 1)]


def test_judging_has_the_machine_for_itself(ledger: Ledger) -> None:
    inline = Inline(grow, 2)
    paused = []

    def watch(result: Mapping[str, Any]) -> dict[str, float]:
        paused.append(inline.is_paused)
        return {}

    run(STUDY, inline, ledger, watch)
    assert paused == [True] * 6


def test_opening_trials_take_the_given_settings_and_defaults(ledger: Ledger) -> None:
    trials = run(study(first=({}, {"x": 0.25})), Inline(grow), ledger)
    assert [trial.settings["x"] for trial in trials[:2]] == [0.5, 0.25]


def test_an_opening_trial_that_repeats_anothers_training_waits_for_it_or_is_left_out(
    ledger: Ledger, tmp_path: Path
) -> None:
    wanted = study(first=({}, {"x": 0.25}), like={1: 0})
    first, second, *_ = run(wanted, Inline(grow), ledger)
    assert (second.like, second.seed, second.settings["x"]) == (0, first.seed, 0.25)
    other, _ = Ledger.open(Database(f"sqlite:///{tmp_path}/other.db"), "key", {})
    trials = run(wanted, Inline(grow, workers=2), other)
    assert all(trial.like is None for trial in trials)


def test_the_search_stops_as_soon_as_a_candidate_within_the_limits_reaches_the_goal(ledger: Ledger) -> None:
    goal = Goal(maximize=("accuracy",), reach={"accuracy": 0.6}, limit={"latency_ms": 0.8})
    first = [{"x": x} for x in (0.1, 0.9, 0.7, 0.75)]
    trials = run(study(goal=goal, first=first), Inline(grow), ledger)
    assert [trial.settings["x"] for trial in trials] == [0.1, 0.9, 0.7]


def test_refused_candidates_are_recorded_and_do_not_count(ledger: Ledger) -> None:
    refuse = lambda settings: "too large" if settings["x"] > 0.5 else ""  # noqa: E731
    inline = Inline(grow)
    trials = run(study(refuse=refuse), inline, ledger)
    states = [trial.state for trial in trials]
    assert states.count("done") == 6 == len(inline.payloads)
    assert "refused" in states
    assert all((trial.state == "refused") == (trial.settings["x"] > 0.5) for trial in trials)


def test_a_worker_may_refuse_a_candidate(ledger: Ledger) -> None:
    def picky(payload: Mapping[str, Any]) -> Iterator[Any]:
        if payload["number"] == 0:
            yield {"refused": "its graph is too large"}
        else:
            yield from grow(payload)

    trials = run(STUDY, Inline(picky), ledger)
    assert (trials[0].state, trials[0].error) == ("refused", "its graph is too large")
    assert [trial.state for trial in trials[1:]] == ["done"] * 6


def test_a_search_in_which_nothing_can_fit_ends_with_refusals_alone(ledger: Ledger) -> None:
    trials = run(study(refuse=lambda settings: "needs 3 MB"), Inline(grow), ledger)
    assert {(trial.state, trial.error) for trial in trials} == {("refused", "needs 3 MB")}
    assert 6 < len(trials) <= 60


def test_what_always_fails_is_given_up_after_five_with_its_error(ledger: Ledger) -> None:
    with pytest.raises(WorkError, match=r"all of 5 trials failed.*this never works"):
        run(study(budget=Budget(trials=50)), Inline(fails), ledger)
    assert [trial.state for trial in ledger.trials()] == ["failed"] * 5


def test_a_single_failure_is_recorded_and_the_search_goes_on(ledger: Ledger) -> None:
    def once(payload: Mapping[str, Any]) -> Iterator[Any]:
        return fails(payload) if payload["number"] == 2 else grow(payload)

    trials = run(STUDY, Inline(once), ledger)
    assert [trial.state for trial in trials] == ["done", "done", "failed", "done", "done", "done"]
    assert trials[2].error == "this never works"


def test_a_result_that_cannot_be_measured_fails_its_trial_alone(ledger: Ledger) -> None:
    def refuses(result: Mapping[str, Any]) -> dict[str, float]:
        if result["metrics"]["accuracy"] == 0.5:
            raise ModelError("model.onnx", "does not load", "")
        return {}

    trials = run(study(first=({},)), Inline(grow), ledger, refuses)
    assert [trial.state for trial in trials] == ["failed", *["done"] * 5]
    assert "does not load" in trials[0].error


def test_a_result_without_the_objective_fails_and_nan_is_not_recorded(ledger: Ledger) -> None:
    def undefined(payload: Mapping[str, Any]) -> Iterator[Any]:
        yield {"metrics": {"accuracy": float("nan"), "f1": 0.5}}

    with pytest.raises(WorkError, match="no finite accuracy"):
        run(study(budget=Budget(trials=2)), Inline(undefined), ledger, lambda result: {})
    assert ledger.trials()[0].metrics == {"f1": 0.5}


def test_a_space_without_ranges_is_one_trial(ledger: Ledger) -> None:
    def one(payload: Mapping[str, Any]) -> Iterator[Any]:
        yield {"metrics": {"accuracy": 1.0}}

    assert len(run(study(walk=lambda choose: None), Inline(one), ledger, lambda result: {})) == 1


def test_a_grid_ends_with_its_last_cell(ledger: Ledger) -> None:
    trials = run(study(sampler=Grid(points=3), budget=Budget(trials=50)), Inline(grow), ledger)
    assert [trial.settings["x"] for trial in trials] == [0.0, 0.5, 1.0]


def test_a_trial_that_falls_behind_is_stopped(ledger: Ledger) -> None:
    def long(payload: Mapping[str, Any]) -> Iterator[Any]:
        x = payload["settings"]["x"]
        for step in range(4):
            yield {"step": step, "values": {"valid_accuracy": x}}
        yield {"metrics": {"accuracy": x}}

    first = [{"x": x} for x in (0.6, 0.7, 0.1, 0.9)]
    stopper = Median(startup=2, warmup=1)
    wanted = study(stopper=stopper, first=first, budget=Budget(trials=4))
    trials = run(wanted, Inline(long), ledger, lambda result: {})
    assert [trial.state for trial in trials] == ["done", "done", "stopped", "done"]
    assert len(trials[2].curve) == 2
    assert "stopped at step 1" in trials[2].notes[0]


def test_the_best_within_the_limits_is_not_stopped_for_what_breaks_them(ledger: Ledger) -> None:
    first = [{"x": x} for x in (0.9, 0.95, 0.3)]
    goal = Goal(maximize=("accuracy",), limit={"latency_ms": 0.5})
    wanted = study(goal=goal, stopper=Median(startup=2, warmup=0), first=first, budget=Budget(trials=3))
    assert run(wanted, Inline(grow), ledger)[2].state == "done"


def test_an_interrupted_search_keeps_its_running_trial_for_the_next(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    inline = Inline(grow)
    trials = search(STUDY, inline, judge, keep, Ledger.open(database, "key", {})[0])
    for trial in trials:
        if trial.number == 3:
            trials.close()  # type: ignore[attr-defined]
            break
    assert inline.jobs == {}
    ledger, resumed = Ledger.open(database, "key", {})
    assert resumed
    assert [trial.state for trial in ledger.trials()] == ["done", "done", "done", "running"]
    again = run(STUDY, Inline(grow), ledger)
    assert [trial.number for trial in again] == list(range(6))
    assert again[3].settings == trial.settings
    database.close()


def test_a_goal_without_objectives_is_refused(ledger: Ledger) -> None:
    with pytest.raises(SpecError, match="nothing to maximize"):
        run(study(goal=Goal()), Inline(grow), ledger)


def test_several_objectives_are_searched_together(ledger: Ledger) -> None:
    goal = Goal(maximize=("accuracy",), minimize=("latency_ms",))
    assert [trial.state for trial in run(study(goal=goal), Inline(grow), ledger)] == ["done"] * 6


class Slow(Inline):
    """Each step takes a while."""

    def messages(self, timeout_s: float) -> Iterator[Message]:
        time.sleep(0.05)
        yield from super().messages(timeout_s)


def endless(payload: Mapping[str, Any]) -> Iterator[Any]:
    for step in range(10**9):
        yield {"step": step, "values": {"valid_accuracy": 0.5}}


def test_at_the_deadline_running_trials_are_called_off(ledger: Ledger) -> None:
    def second_hangs(payload: Mapping[str, Any]) -> Iterator[Any]:
        return endless(payload) if payload["number"] == 1 else grow(payload)

    inline = Slow(second_hangs)
    trials = run(study(budget=Budget(seconds=1.0)), inline, ledger)
    assert [trial.state for trial in trials] == ["done", "stopped"]
    assert trials[1].notes == ("the budget ended",)
    assert inline.jobs == {}
    assert [trial.state for trial in ledger.trials()] == ["done", "stopped"]
    assert 0 < inline.payloads[0]["seconds"] <= 0.25


def test_a_budget_too_short_for_one_trial_says_so(ledger: Ledger) -> None:
    with pytest.raises(GoalError, match="ended before the first trial did"):
        run(study(budget=Budget(seconds=0.2)), Slow(endless), ledger)


def test_time_that_an_earlier_run_spent_is_not_spent_again(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    ledger, _ = Ledger.open(database, "key", {})
    done = Trial(0, "done", {"x": 0.5}, metrics={"accuracy": 0.5}, seconds=1.0)
    ledger.write(done, spent_s=59.5)
    again, _ = Ledger.open(database, "key", {})
    assert run(study(budget=Budget(seconds=60)), Inline(grow), again) == [done]
    database.close()


def test_a_search_runs_in_worker_processes_side_by_side(ledger: Ledger) -> None:
    with Pool(2, set_up_child) as pool:
        wanted = study(walk=child_walk, budget=Budget(trials=5), seed=3)
        trials = run(wanted, pool, ledger, lambda result: {"latency_ms": 1.0})
    assert sorted(trial.number for trial in trials) == list(range(5))
    assert [trial.state for trial in trials].count("done") >= 4


@pytest.mark.parametrize(("grace_s", "states"), [(60.0, ["done"]), (0.0, ["stopped"])])
def test_a_search_with_nothing_yet_waits_for_its_first_candidate(
    ledger: Ledger, grace_s: float, states: list[str]
) -> None:
    def slow(payload: Mapping[str, Any]) -> Iterator[Any]:
        time.sleep(0.2)
        yield {"step": 1, "values": {}}
        yield from grow(payload)

    wanted = study(budget=Budget(seconds=0.05), grace_s=grace_s)
    if grace_s:
        assert [trial.state for trial in run(wanted, Inline(slow), ledger)] == states
    else:
        with pytest.raises(GoalError, match="before the first trial"):
            run(wanted, Inline(slow), ledger)
        assert [trial.state for trial in ledger.trials()] == states


def test_a_free_worker_does_not_wait_for_a_slow_trial(ledger: Ledger) -> None:
    def first_is_slow(payload: Mapping[str, Any]) -> Iterator[Any]:
        for step in range(40 if payload["number"] == 0 else 0):
            yield {"step": step, "values": {}}
        yield from grow(payload)

    trials = run(STUDY, Inline(first_is_slow, workers=2), ledger)
    assert [trial.number for trial in trials] == [1, 2, 3, 4, 5, 0]
