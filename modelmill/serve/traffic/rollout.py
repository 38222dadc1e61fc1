"""A rollout: the steps by which a candidate takes over, and how it goes from one to the next, or back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from modelmill.errors import OutOfBounds
from modelmill.serve.traffic.counts import Counts
from modelmill.serve.traffic.place import ByOrNothing
from modelmill.serve.traffic.verdict import Finding, Tolerances, judge

HOLD_LOG10 = 1.0
"""While bets against the candidate stand at ten times their stake or more, it is given no further traffic."""

PATIENT = 20
"""So many times the requests that a step wants may pass without one to the candidate before it is said why."""

Percent = Annotated[float, Meta(gt=0, le=100)]
State = Literal["running", "done", "rolled_back", "aborted"]


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a rollout goes: through which steps, how long each takes at least, and what is tolerated."""

    steps: Annotated[tuple[Percent, ...], Meta(min_length=1, max_length=100)] = (1.0, 5.0, 25.0, 100.0)
    """What percentage of requests the candidate answers, step by step; the last one is 100."""
    shadow: bool = True
    """Whether it is asked unseen, before it answers anybody."""
    pairs: Annotated[int, Meta(ge=0)] = 2000
    """Requests that both versions must have run before the shadow ends."""
    requests: Annotated[int, Meta(ge=0)] = 100
    """Requests that the candidate must have answered in each further step, and as many that were mirrored."""
    seconds: Annotated[float, Meta(ge=0)] = 10.0
    """How long a step takes at least."""
    by: ByOrNothing = ""
    """What tells callers apart, where one caller is always to be answered by one version; empty: each request anew."""
    mirror: Percent = 100.0
    """How many requests in a hundred are mirrored, where there is time."""
    notes: Annotated[str, Meta(max_length=4000)] = ""
    """What clients are told of the new version when it becomes live."""
    tolerances: Tolerances = Tolerances()

    @property
    def shares(self) -> tuple[float, ...]:
        """The percentage of every step; the shadow's is 0.

        >>> Plan(steps=(5, 100)).shares
        (0.0, 5, 100)
        """
        return ((0.0,) if self.shadow else ()) + self.steps


SHARE = (lambda value: 0 < value <= 1, "above 0 and at most 1, which switches that criterion off")

BOUNDS: Mapping[str, tuple[Callable[[float], bool], str]] = {
    "errors": SHARE,
    "slower": (lambda value: 0 <= value <= 1000, "from 0 to 1000"),
    "tail": (lambda value: 1 <= value <= 1000, "from 1 to 1000"),
    "differ": SHARE,
    "near": (lambda value: 0 <= value <= 1000, "from 0 to 1000"),
    "level": (lambda value: 0 < value < 1, "above 0 and below 1"),
}
"""What each tolerance may be: whether a value is, and in words."""


def check(plan: Plan) -> Plan:
    """The plan, if its steps rise to 100 and its tolerances can be judged by. Raises OutOfBounds."""
    if list(plan.steps) != sorted(set(plan.steps)) or plan.steps[-1] != 100:
        came = ",".join(f"{step:g}" for step in plan.steps)
        raise OutOfBounds(f"steps = {came}", "steps rise, and the last one is 100", "Try 1,5,25,100.")
    for name, (is_good, wanted) in BOUNDS.items():
        value = getattr(plan.tolerances, name)
        if not is_good(value):
            raise OutOfBounds(f"{name} = {value:g}", f"expected a number {wanted}", "Leave it out for its default.")
    return plan


class Rollout(msgspec.Struct, frozen=True):
    """A candidate on its way; what changes with a step is written down with its evidence."""

    id: int
    name: str
    number: int
    """The candidate."""
    base: int
    """The live version at the start, which it is compared with."""
    plan: Plan
    state: State = "running"
    step: int = 0
    seconds: float = 0.0
    """How long the present step has been running."""
    reason: str = ""
    """Why the last change happened."""
    created_ms: int = 0
    changed_ms: int = 0

    @property
    def share(self) -> float:
        """The percentage of requests that the candidate answers now: all, once it is done."""
        if self.state == "running":
            return self.plan.shares[self.step]
        return 100.0 if self.state == "done" else 0.0

    @property
    def reference(self) -> str:
        """NAME@NUMBER of the candidate."""
        return f"{self.name}@{self.number}"

    @property
    def stage(self) -> str:
        """The present step, in a word: `shadow`, `5 %`, or how it ended."""
        if self.state != "running":
            return self.state.replace("_", " ")
        return "shadow" if self.share == 0 else f"{self.share:g} %"


class Next(msgspec.Struct, frozen=True):
    """What a rollout becomes, and what was found."""

    rollout: Rollout
    findings: dict[str, Finding]
    waits: str = ""
    """What the present step still waits for."""


def advance(rollout: Rollout, overall: Counts, step: Counts) -> Next:
    """The rollout after a look at its counts: back, on, done, or as it was.

    overall: everything since it began, on which the criteria are judged. step: the present step alone.

    >>> rollout = Rollout(1, "digits", 2, 1, Plan(pairs=10, seconds=0))
    >>> advance(rollout, Counts(pairs=10), Counts(pairs=10)).rollout.stage
    '1 %'
    >>> advance(rollout, Counts(pairs=9), Counts(pairs=9)).waits
    '9 of 10 mirrored requests'
    >>> advance(rollout, Counts(), Counts(crowded="the budget is full")).waits
    'room in memory: the budget is full'
    """
    findings = judge(overall, rollout.plan.tolerances)
    if overall.broken:
        return Next(_ended(rollout, "rolled_back", f"it cannot be loaded: {overall.broken}"), findings)
    bad = [name for name, finding in findings.items() if finding.bad]
    if bad:
        return Next(_ended(rollout, "rolled_back", "; ".join(words(name, findings[name]) for name in bad)), findings)
    waits = _waits(rollout, step, findings)
    if waits:
        return Next(rollout, findings, waits)
    if rollout.step + 1 == len(rollout.plan.shares):
        return Next(_ended(rollout, "done", "every step was passed"), findings)
    after = msgspec.structs.replace(rollout, step=rollout.step + 1, seconds=0.0, reason="the step before was passed")
    return Next(after, findings)


def _waits(rollout: Rollout, step: Counts, findings: Mapping[str, Finding]) -> str:
    plan = rollout.plan
    if step.crowded:
        return f"room in memory: {step.crowded}"
    if rollout.share == 0 and step.pairs < plan.pairs:
        return f"{step.pairs} of {plan.pairs} mirrored requests"
    if rollout.share > 0 and step.candidate < plan.requests:
        return f"{step.candidate} of {plan.requests} requests to the candidate" + _lack(rollout, step)
    if rollout.share > 0 and step.pairs < min(plan.requests, plan.pairs):
        return f"{step.pairs} of {min(plan.requests, plan.pairs)} mirrored requests"
    if rollout.seconds < plan.seconds:
        return f"{rollout.seconds:.0f} of {plan.seconds:g} seconds"
    doubts = [name for name, finding in findings.items() if finding.log10_e >= HOLD_LOG10]
    return f"more evidence on {', '.join(doubts)}" if doubts else ""


def _lack(rollout: Rollout, step: Counts) -> str:
    """Why nobody may ever come to the candidate, where one caller always meets one version and none has come yet."""
    plan = rollout.plan
    if not plan.by or step.candidate or step.live < PATIENT * plan.requests:
        return ""
    if not step.named:
        hint = "abort, and begin without --by, or by what they send"
        return f": none of {step.live} requests says who calls ({plan.by}), and the live version answers those; {hint}"
    hint = f"abort, and begin with a larger one: --steps {'25,100' if rollout.share < 25 else '100'}"
    return f": no caller of {step.live} requests fell into this step; {hint}"


def _ended(rollout: Rollout, state: State, reason: str) -> Rollout:
    return msgspec.structs.replace(rollout, state=state, reason=reason)


WORDS = {
    "errors": "it fails where the live version does not",
    "slower": "it is slower than the live version",
    "tail": "it is slow too often",
    "differ": "its answers differ from the live version's",
}


def words(criterion: str, finding: Finding) -> str:
    """What a criterion found, in words.

    >>> words("differ", Finding(200, 21, 3.1, True))
    "its answers differ from the live version's (21 of 200 looks, e-value 10^3.1)"
    """
    looks = f"{finding.against} of {finding.looks} looks, e-value 10^{finding.log10_e:.1f}"
    return f"{WORDS[criterion]} ({looks})"
