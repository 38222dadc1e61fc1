"""Whether a candidate is worse than the live version: a test that may be looked at all the time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from modelmill.serve.traffic.counts import Counts, Tally, quantile

BETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 0.95)
"""What shares of the largest allowed bet are laid, each with an equal part of the capital."""

HALF = 0.5
"""A candidate that is slower by just the tolerance is beyond it in half of the pairs."""


class Tolerances(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """By how much a candidate may be worse before it is called bad, and how sure one must be to call it so."""

    errors: float = 0.005
    """By what share of requests it may fail more often than the live version; 1 is not judged."""
    slower: float = 0.1
    """By what share of the live version's time it may take longer, in half of the pairs."""
    tail: float = 2.0
    """How many times as often as the live version it may exceed the live version's p95."""
    differ: float = 0.05
    """In what share of rows its answers may differ; 1 is not judged."""
    near: float = 0.01
    """By what share of the live version's number its own may differ and still be the same."""
    level: float = 0.01
    """The chance of calling a candidate bad that is not: for all criteria and the whole rollout together."""


class Finding(msgspec.Struct, frozen=True):
    """What one criterion has to say: the capital that bets against the candidate have made of 1."""

    looks: int
    against: int
    log10_e: float
    """The e-value's logarithm; 2 is a capital of 100."""
    bad: bool


class Allowed(NamedTuple):
    """What one criterion's looks may come to, on average, before the candidate is worse than it may be."""

    mean: float
    lowest: int = 0
    """The smallest value of a look: -1 where the live version's own failures count for the candidate."""


def judge(counts: Counts, tolerances: Tolerances) -> dict[str, Finding]:
    """What each criterion says of everything that was seen since the rollout began.

    All criteria together call a good candidate bad with a chance of `level` at most, however often one looks: each has
    its part of it (the union bound), and each holds at every moment (Ville's inequality).

    >>> bad = Counts(differ=Tally(against=40, neither=160))
    >>> [name for name, finding in judge(bad, Tolerances()).items() if finding.bad]
    ['differ']
    """
    criteria = allowed(tolerances)
    threshold = math.log(len(criteria) / tolerances.level)
    found: dict[str, Finding] = {}
    for name, limit in criteria.items():
        tally: Tally = getattr(counts, name)
        log_e = log_e_value(tally, limit)
        found[name] = Finding(tally.looks, tally.against, round(log_e / math.log(10), 3), log_e >= threshold)
    return found


def allowed(tolerances: Tolerances) -> Mapping[str, Allowed]:
    """For each criterion the mean of its looks (against 1, favour -1, neither 0) that is still allowed."""
    return {
        "errors": Allowed(tolerances.errors, -1),
        "slower": Allowed(HALF),
        "tail": Allowed(tolerances.tail / (1 + tolerances.tail)),
        "differ": Allowed(tolerances.differ),
    }


def log_e_value(tally: Tally, limit: Allowed) -> float:
    """The logarithm of what bets on a mean above the allowed one have made of a capital of 1.

    Looks x are 1, 0 or -1. Bet j multiplies its capital by 1 + b_j (x - mean), which is 1 or less on average, whatever
    came before, as long as the true mean is the allowed one or less. So the capital of all bets together reaches 1/a
    with a chance of a at most, at any time (Ville 1939). The bets are fixed, so that it depends on the counts alone:
    they can be added up over seconds and servers, in any order.

    >>> chances = ((Tally(neither=2), 0.25), (Tally(against=1, neither=1), 0.5), (Tally(against=2), 0.25))
    >>> round(sum(chance * math.exp(log_e_value(tally, Allowed(0.5))) for tally, chance in chances), 12)
    1.0

    Waudby-Smith & Ramdas (2024), Estimating means of bounded random variables by betting, JRSS B 86(1):1-27,
    https://doi.org/10.1093/jrsssb/qkad009, section 4; the mixture over bets is that of Robbins (1970),
    https://doi.org/10.1214/aoms/1177696786.
    """
    largest = 1 / (limit.mean - limit.lowest)
    logs = [
        tally.against * math.log1p(bet * (1 - limit.mean))
        + tally.neither * math.log1p(-bet * limit.mean)
        + (tally.favour * math.log1p(-bet * (1 + limit.mean)) if tally.favour else 0.0)
        for bet in (part * largest for part in BETS)
    ]
    highest = max(logs)
    return highest + math.log(sum(math.exp(value - highest) for value in logs) / len(BETS))


def evidence(counts: Counts, findings: Mapping[str, Finding]) -> dict[str, object]:
    """What is written down with a step: counts, e-values, and durations in milliseconds."""
    times = {
        f"{who}_p{round(share * 100)}_ms": None if (found := quantile(runs, share)) is None else round(found * 1000, 4)
        for who, runs in (("live", counts.live_times), ("candidate", counts.candidate_times))
        for share in (0.5, 0.95)
    }
    shown = ("live", "live_failed", "candidate", "candidate_failed", "pairs", "dropped", "rows", "rows_differ")
    return {
        "counts": {name: getattr(counts, name) for name in shown},
        "latency": times,
        "criteria": {name: msgspec.to_builtins(finding) for name, finding in findings.items()},
        **({"broken": counts.broken} if counts.broken else {}),
    }
