"""What one server counts of a candidate and the live version while requests come; it changes with each of them."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from modelmill.serve.traffic.counts import Counts, Tally, class_of, quantile
from modelmill.serve.traffic.pair import Pair
from modelmill.serve.traffic.verdict import Tolerances

KNOWN = 200
"""Runs of the live version after which its p95 is known well enough to count what exceeds it."""

RENEWED = 500
"""Pairs after which the p95 is worked out anew; between, it is fixed, so that no pair is judged by itself."""

NUMBERS = ("live", "live_failed", "candidate", "candidate_failed", "pairs", "dropped", "rows", "rows_differ", "named")

CHANCE_SECONDS = 0.00005
"""By so much two sessions of one file differ for good, by where their weights lie in memory."""


class Meter:
    """The counts of one step in this process."""

    def __init__(self, tolerances: Tolerances, random: Random) -> None:
        self.tolerances = tolerances
        self.random = random
        self.counts = dict.fromkeys(NUMBERS, 0)
        self.looks = {name: [0, 0, 0] for name in ("errors", "slower", "tail", "differ")}
        """By criterion how many looks were 0, 1 and -1: at the places 0, 1 and -1 of the list."""
        self.live_times: Counter[str] = Counter()
        self.candidate_times: Counter[str] = Counter()
        self.broken = ""
        self.crowded = ""
        self.slow_s: float | None = None
        """The live version's p95; None while too little is known."""
        self.answered: list[bool] = []
        """Whether the candidate failed in requests that still wait for one of the live version's to be set against."""

    def served(self, by_candidate: bool, failed: bool, mirrored: bool) -> None:
        """Count a request that a client saw answered, or failed.

        Where it is not mirrored, each of the candidate's is set against the next of the live version's: so what
        troubles both for a while speaks against neither, and no failure speaks twice.
        """
        self.counts["candidate" if by_candidate else "live"] += 1
        if failed:
            self.counts["candidate_failed" if by_candidate else "live_failed"] += 1
        if mirrored:
            return
        if by_candidate:
            self.answered.append(failed)
            del self.answered[:-1]
        elif self.answered:
            self.looks["errors"][self.answered.pop() - failed] += 1

    def mirrored(self, pair: Pair) -> None:
        """Count a request that both versions ran, unseen."""
        self.counts["pairs"] += 1
        self.looks["errors"][pair.candidate_failed - pair.live_failed] += 1
        if pair.live_failed or pair.candidate_failed:
            return
        allowed = pair.live_seconds * (1 + self.tolerances.slower) + CHANCE_SECONDS
        self.looks["slower"][pair.candidate_seconds > allowed] += 1
        if self.slow_s is not None:
            slow = pair.candidate_seconds > self.slow_s + CHANCE_SECONDS, pair.live_seconds > self.slow_s
            if slow[0] != slow[1]:
                self.looks["tail"][slow[0]] += 1
        self.live_times[class_of(pair.live_seconds)] += 1
        self.candidate_times[class_of(pair.candidate_seconds)] += 1
        if pair.differ:
            self.looks["differ"][self.random.choice(pair.differ)] += 1
            self.counts["rows"] += len(pair.differ)
            self.counts["rows_differ"] += sum(pair.differ)
        if self.slow_s is None or self.counts["pairs"] % RENEWED == 0:
            self._renew()

    def named(self) -> None:
        """Count a request that said who calls; one that is picked for twice counts twice."""
        self.counts["named"] += 1

    def dropped(self) -> None:
        """Count a request that was not mirrored, for want of time."""
        self.counts["dropped"] += 1

    def follow(self, other: Meter) -> None:
        """Go on where the meter of the step before was: what it knew of the live version holds."""
        self.slow_s = other.slow_s

    def read(self) -> Counts:
        """The counts now."""
        found: dict[str, Any] = {name: self.counts[name] for name in NUMBERS}
        found |= {name: Tally(looks[1], looks[-1], looks[0]) for name, looks in self.looks.items()}
        times = (dict(self.live_times), dict(self.candidate_times))
        found |= {"broken": self.broken, "crowded": self.crowded}
        return Counts(**found, live_times=times[0], candidate_times=times[1])

    def _renew(self) -> None:
        if self.live_times.total() >= KNOWN:
            self.slow_s = quantile(self.live_times, 0.95)
