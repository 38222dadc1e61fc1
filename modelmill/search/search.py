"""Looks for the best candidate: asks a sampler, has trials grown in worker processes, judges them, learns from them.

It is handed functions, and knows neither training nor metrics.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from msgspec.structs import replace

from modelmill.contracts import Generator, Sampler, Stopper
from modelmill.errors import GoalError, MillError, SpecError, WorkError
from modelmill.execute.message import Message
from modelmill.history import Curve
from modelmill.search.clock import Clock
from modelmill.search.ledger.ledger import Ledger
from modelmill.search.pareto import reached, value
from modelmill.search.past import curve
from modelmill.search.seeds import derive
from modelmill.search.suggest import Suggester
from modelmill.search.tally import Tally, finite
from modelmill.space import Same, Settings, Walk, themselves
from modelmill.spec import COSTS, Budget, Goal
from modelmill.trial import Point, Trial

FAILURES = 5
"""So many failures before the first success, and the search gives up."""

REFUSALS = 60
"""So many refusals one after the other, and the search takes it that nothing can fit."""

STOPPING_S = 1.0
"""How long a trial that is stopped may take to its next step before its process is ended."""

TICK_S = 0.2
"""How long to wait for news at most, so that a deadline is kept."""


class Grow(Protocol):
    """What runs trials: `execute.local.Pool`, set up to make a candidate from a payload.

    A payload is `{"number", "settings", "seed", "seconds"}`, with `"gradients": True` where the sampler wants them, and
    `"like"` with the number of a trial whose training need not be repeated.
    Progress is `{"step", "values"}`, with `"folds"` where some are finished and the `"work"` so far, or `{"costs"}`
    that are known before training; the result is `{"metrics", "artifact", "notes", "costs", "work", "gradients",
    "steps"}`, all but the metrics optional, or `{"refused": REASON}`.
    """

    @property
    def free(self) -> int:
        """How many more jobs could run at once."""

    def submit(self, job: str, payload: Any) -> None:
        """Run a job."""

    def messages(self, timeout_s: float) -> Iterator[Message]:
        """What has happened to the jobs."""

    def cancel(self, job: str, grace_s: float = 0.0) -> None:
        """Call a job off."""

    def paused(self) -> AbstractContextManager[None]:
        """Suspend all jobs for a while."""


Judge = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Gives the costs of a result, measured while nothing else runs.

Beside them it may give `"steps"`, what became of the steps of its compression; or, in place of all, `"again"`: what is
added to the payload with which the trial is run once more.
"""

Keep = Callable[[bytes], str]
"""Stores an artifact and gives its digest."""

Refuse = Callable[[Settings], str]
"""Says why a candidate cannot fit, or "" where it may."""


def _refuse_none(settings: Settings) -> str:
    return ""


@dataclass(frozen=True, eq=False)
class Study:
    """What to look for, where, and for how long."""

    walk: Walk
    goal: Goal
    sampler: Sampler
    stopper: Stopper | None = None
    generator: Generator | None = None
    """Picks the settings of the architecture in the sampler's place."""
    seed: int = 0
    budget: Budget | None = None
    """Where it differs from the goal's own."""
    first: Sequence[Mapping[str, Any]] = ()
    """Settings of the opening trials; what they leave out takes its default, or is picked at random."""
    like: Mapping[int, int] = field(default_factory=dict)
    """Opening trials that repeat the training of an earlier one: number to the number of that one. Where that still
    runs, another worker has its turn with what the sampler picks."""
    share: float = 0.25
    """The part of a budget in seconds that one trial may use."""
    grace_s: float = 0.0
    """How long after its deadline a search that has nothing yet may wait for its first candidate."""
    refuse: Refuse = field(default=_refuse_none)
    """Asked before any training."""
    same: Same = field(default=themselves)
    """What settings share that make the same candidate: two equal graphs are one trial."""


def search(study: Study, grow: Grow, judge: Judge, keep: Keep, ledger: Ledger) -> Iterator[Trial]:
    """Yield every trial whenever its state or its curve changes; trials of an earlier run of the study come first.

    Ends with the budget, with a candidate that reaches the goal, or when the space is exhausted; within 2 seconds of a
    deadline. To interrupt, stop iterating: trials that run then are run again when the study is gone on with. It is for
    the caller to close the ledger as finished, once the winner is safe; until then the study can be gone on with.

    Raises WorkError where every trial failed, GoalError where none ended within the budget. A study that is refused
    before its first trial leaves nothing in the ledger.
    """
    if not study.goal.objectives:
        raise SpecError("goal", "there is nothing to maximize or minimize", "Name a metric or a cost.")
    try:
        run = _Run(study, grow, judge, keep, ledger)
    except MillError:
        ledger.discard()
        raise
    try:
        yield from run.remember()
        while True:
            yield from run.start()
            if not run.running:
                break
            for message in grow.messages(TICK_S):
                yield from run.hear(message)
            yield from run.end_in_time()
    except (GeneratorExit, KeyboardInterrupt):
        run.abandon()
        ledger.close("interrupted")
        raise
    except BaseException:
        run.abandon()
        raise
    try:
        run.check()
    except MillError:
        ledger.close("finished")
        raise


class _Run:
    """One run of a search; state: its trials, which of them run, and why no more are started."""

    def __init__(self, study: Study, grow: Grow, judge: Judge, keep: Keep, ledger: Ledger) -> None:
        self.study = study
        self.grow = grow
        self.judge = judge
        self.keep = keep
        self.ledger = ledger
        budget = study.budget or Budget.parse(study.goal.budget)
        self.clock = Clock(budget, time.monotonic(), ledger.spent_s)
        self.suggester = Suggester(study.walk, study.goal, study.sampler, study.seed, study.same, study.generator)
        self.tally = Tally()
        self.curves: dict[int, Curve] = {}
        self.running: dict[int, Trial] = {}
        self.again: list[Trial] = []
        self.stopping: dict[int, str] = {}
        self.measuring_s = 0.0
        self.over = ""

    def remember(self) -> Iterator[Trial]:
        """Take over what an earlier run of the study left in the ledger."""
        for trial in self.ledger.trials():
            if trial.state == "running":
                self.tally.start(trial.number)
                self.again.append(replace(trial, curve=(), foreseen={}))
            else:
                self._learn(trial)
                yield trial

    def start(self) -> Iterator[Trial]:
        """Start trials as long as workers are free and the budget allows."""
        while not self.over and self.grow.free > 0:
            if not self._fits():
                self.over = "the budget ended"
                return
            trial = self._next()
            if trial is None:  # with what still runs the sampler may know of more
                self.over = "" if self.running else "the space is exhausted"
                return
            reason = self.study.refuse(trial.settings)
            if reason:
                yield self._ended(replace(trial, state="refused", error=reason))
                continue
            self._write(trial)
            self.running[trial.number] = trial
            self.tally.start(trial.number)
            self.grow.submit(str(trial.number), self._payload(trial))
            yield trial

    def hear(self, message: Message) -> Iterator[Trial]:
        """Take in what happened to a trial."""
        trial = self.running.get(int(message.job)) if message.job.isdigit() else None
        if trial is None:
            return
        if message.kind == "progress":
            yield from self._progress(trial, message.value)
        elif message.kind == "result":
            judged = self._judged(trial, message)
            if judged is not None:
                yield self._ended(judged)
        else:
            yield self._ended(self._failed(trial, message))

    def end_in_time(self) -> Iterator[Trial]:
        """At the deadline, or once the goal is reached, call off what still runs."""
        if self.over == "the goal is reached":
            yield from self._stop_all("another candidate reached the goal")
        elif time.monotonic() >= self.clock.deadline + (0.0 if self._has_done() else self.study.grace_s):
            self.over = self.over or "the budget ended"
            yield from self._stop_all("the budget ended")

    def abandon(self) -> None:
        """Call off what runs; the ledger goes on calling it running, so that the next run takes it up."""
        for number in self.running:
            self.grow.cancel(str(number))
        self.running = {}

    def check(self) -> None:
        """Refuse to end without a single finished trial, and say why there is none."""
        tally = self.tally
        if tally.of("done"):
            return
        if tally.of("failed"):
            said = f"all of {tally.of('failed')} trials failed, the last one with: {tally.error}"
            raise WorkError("search", said, "Try the settings of one trial by hand, or another method.")
        if not tally.next and self.over == "the space is exhausted":
            raise SpecError("search", "the space holds no candidate at all", "Give its ranges values to pick.")
        if tally.of("stopped") or not tally.of("refused"):
            raise GoalError(
                "goal.budget", "the budget ended before the first trial did", "Give more time, or a smaller space."
            )

    def _fits(self) -> bool:
        return self.clock.fits(time.monotonic(), self.tally.counted + len(self.running), self.tally.usual_s)

    def _next(self) -> Trial | None:
        if self.again:
            trial = self.again.pop(0)
            self.suggester.repeat(trial.number, trial.settings, trial.memo)
            return trial
        number = self.tally.next
        first, started = self.study.first, time.process_time()
        like = self.study.like.get(number)
        opens = number < len(first) and like not in self.running
        suggestion = self.suggester.opening(number, first[number], like) if opens else None
        suggestion = suggestion or self.suggester.pick(number)
        if suggestion is None:
            return None
        return Trial(
            number,
            "running",
            suggestion.settings,
            seed=derive(self.study.seed, "trial", number if suggestion.like is None else suggestion.like),
            notes=suggestion.notes,
            memo=suggestion.memo,
            like=suggestion.like,
            pick_s=round(time.process_time() - started, 6),
        )

    def _payload(self, trial: Trial) -> dict[str, Any]:
        allowance_s = self.clock.allowance_s(time.monotonic(), self.measuring_s, self.study.share)
        payload = {"number": trial.number, "settings": trial.settings, "seed": trial.seed, "seconds": allowance_s}
        payload |= {} if trial.like is None else {"like": trial.like}
        return {**payload, "gradients": True} if self.study.sampler.gradients else payload

    def _progress(self, trial: Trial, news: Any) -> Iterator[Trial]:
        """Take a report in: it is written before anything is made of it."""
        if not isinstance(news, Mapping):
            return
        if trial.number in self.stopping:
            return  # What it says until it hears of it depends on the machine.
        if "costs" in news:
            trial = self.running[trial.number] = replace(trial, foreseen=_finite(news["costs"]))
            self._write(trial)
        if not ("step" in news and "values" in news):
            return
        step, folds = finite(news["step"]), finite(news.get("folds", 0))
        if math.isnan(step) or math.isnan(folds):
            self.grow.cancel(str(trial.number))
            yield self._ended(replace(trial, state="failed", error=f"its report has the step {news['step']!r}"))
            return
        point = Point(int(step), _finite(news["values"]), int(folds))
        self.ledger.report(trial, point)
        work = _number(news.get("work"), trial.work)
        trial = self.running[trial.number] = replace(trial, curve=(*trial.curve, point), work=work)
        yield trial
        if why := self._behind(trial):
            at = f"fold {point.folds}, step {point.step}" if point.folds else f"step {point.step}"
            self.stopping[trial.number] = f"stopped at {at}: {why}"
            self.grow.cancel(str(trial.number), STOPPING_S)

    def _behind(self, trial: Trial) -> str:
        """Why the stopper gives a trial up; empty where it does not."""
        stopper, own = self.study.stopper, curve(trial, self.study.goal)
        if stopper is None or not own.at or own.at[-1] != (trial.curve[-1].folds, trial.curve[-1].step):
            return ""
        return stopper(own, [*self.curves.values(), *(curve(other, self.study.goal) for other in self._others(trial))])

    def _others(self, trial: Trial) -> list[Trial]:
        return [other for other in self.running.values() if other.number != trial.number]

    def _judged(self, trial: Trial, message: Message) -> Trial | None:
        """A trial with its scores: the costs are measured here, while all other trials pause.

        None for one that is run once more, since what was measured changes what it does.
        """
        result = message.value if isinstance(message.value, Mapping) else {}
        trial = replace(trial, seconds=trial.seconds + message.seconds)
        if trial.number in self.stopping:
            return self._stopped(trial, self.stopping[trial.number])
        if "refused" in result:
            return replace(trial, state="refused", error=str(result["refused"]), costs=_finite(result.get("costs", {})))
        if lacks := self._lacks(result):
            return replace(trial, state="failed", error=lacks, metrics=_finite(result.get("metrics")))
        started = time.monotonic()
        if self._has_done() and not self.clock.may_measure(started, self.measuring_s):
            return self._stopped(trial, "the budget ended before it was measured")
        try:
            with self.grow.paused():
                found = self.judge(result)
        except MillError as error:
            return replace(trial, state="failed", error=str(error))
        took_s = time.monotonic() - started
        self.measuring_s = max(self.measuring_s, took_s)
        timed = replace(trial, seconds=trial.seconds + took_s, measure_s=round(trial.measure_s + took_s, 6))
        if again := found.get("again"):
            self.running[trial.number] = timed
            self.grow.submit(str(trial.number), {**self._payload(trial), **again})
            return None
        costs = _finite({**_finite(result.get("costs")), **found})
        return self._scored(replace(timed, costs=costs, steps=tuple(found.get("steps") or ())), result)

    def _scored(self, trial: Trial, result: Mapping[str, Any]) -> Trial:
        trial = replace(
            trial,
            metrics=_finite(result.get("metrics", {})),
            notes=(*trial.notes, *map(str, result.get("notes") or ())),
            spread=_number(result.get("spread")),
            work=_number(result.get("work"), trial.work),
            steps=trial.steps or tuple(result.get("steps") or ()),
            gradients=_finite(result.get("gradients", {})),
        )
        missing = [name for name, _ in self.study.goal.objectives if math.isnan(value(trial, name))]
        if missing:
            return replace(trial, state="failed", error=f"it has no finite {missing[0]}")
        artifact = result.get("artifact")
        return replace(trial, state="done", artifact=self.keep(artifact) if artifact else "")

    def _lacks(self, result: Mapping[str, Any]) -> str:
        """What a result lacks that no measurement can add; empty where it lacks nothing."""
        if not result.get("metrics"):
            return "it ended without a result: no metrics came back"
        metrics = _finite(result["metrics"])
        wanted = [name for name, _ in self.study.goal.objectives if name not in COSTS and name not in metrics]
        return f"it has no finite {wanted[0]}" if wanted else ""

    def _stopped(self, trial: Trial, note: str) -> Trial:
        return replace(trial, state="stopped", notes=(*trial.notes, note))

    def _failed(self, trial: Trial, message: Message) -> Trial:
        trial = replace(trial, seconds=message.seconds)
        if trial.number in self.stopping or message.reason == "cancelled":
            return self._stopped(trial, self.stopping.get(trial.number, message.error))
        return replace(trial, state="failed", error=message.error)

    def _ended(self, trial: Trial) -> Trial:
        """Record, learn from and conclude from a trial that has just ended."""
        self.running.pop(trial.number, None)
        self.stopping.pop(trial.number, None)
        self._write(trial)
        self._learn(trial)
        return trial

    def _learn(self, trial: Trial) -> None:
        self.tally.end(trial)
        self.suggester.learn(trial)
        if self.study.stopper and trial.curve:
            self.curves[trial.number] = curve(trial, self.study.goal)
        self._conclude(trial)

    def _conclude(self, trial: Trial) -> None:
        """Say that the search is over where this trial shows it."""
        if reached(trial, self.study.goal):
            self.over = "the goal is reached"
        elif self.tally.refusals >= REFUSALS:
            self.over = "nothing fits"
        elif trial.state == "failed" and not self._has_done():
            self.over = "every trial fails" if self.tally.of("failed") >= FAILURES else self.over

    def _has_done(self) -> bool:
        return self.tally.of("done") > 0

    def _stop_all(self, note: str) -> Iterator[Trial]:
        for trial in list(self.running.values()):
            self.grow.cancel(str(trial.number))
            yield self._ended(self._stopped(trial, self.stopping.get(trial.number, note)))
        for _ in self.grow.messages(0.0):
            pass  # that they were called off; whoever uses the workers next need not hear of it

    def _write(self, trial: Trial) -> None:
        self.ledger.write(trial, self.clock.elapsed_s(time.monotonic()))


def _finite(values: Any) -> dict[str, float]:
    """The values that JSON can hold: one that is not there is unknown."""
    if not isinstance(values, Mapping):
        return {}
    found = {str(name): finite(value) for name, value in values.items()}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _number(value: Any, otherwise: float = 0.0) -> float:
    found = finite(value)
    return otherwise if math.isnan(found) else found
