"""How soon a rollout takes a bad version back, and how rarely a good one: simulated at 200 requests a second.

    python bench/serve/rollouts.py [--quick] [--cases equal slower ...] [--most N] [--show]

The service's own parts decide: its router draws who answers, its purse which requests are mirrored, its meter counts,
and `advance` looks at the counts once a second. Simulated are only the requests, and what the versions do with them:

- Requests come at random (Poisson), 200 a second, of one row each, to a version that takes 2 ms. With that, copies may
  take a quarter of a core, so that some 60 requests a second are mirrored. (A tiny model's are mirrored nearly all.)
- Times are noisy in three ways. Each run: lognormal (sigma 0.3), and in 1 of 100 longer by a Pareto factor (index 1.5,
  at most 50). The machine: a drift of both versions (a lognormal AR(1) process, sigma 0.1, over 5 s), and bursts, one
  in 5 s, of 0.5 s on average, in which everything takes 1.5 to 4 times as long. A burst may begin between the two runs
  of a pair.
- Both versions fail in 1 of 1,000 requests, by themselves.

Cases: `errors` fails in 5 % of requests; `nan` gives NaN in 5 %; `slower` takes 1.3 times as long; `differ` answers
otherwise in 10 %. `equal` is as fast as the live version, fails as rarely, and answers otherwise in 2 %, as a version
that was trained anew does. `edge_*` are just as bad as is tolerated: the hardest that may not be taken back.

A line of `results/rollouts.jsonl` is one rollout (case, seed); one that is there is not run again.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np

from modelmill.serve.traffic.counts import Counts
from modelmill.serve.traffic.meter import Meter
from modelmill.serve.traffic.mirror import Purse
from modelmill.serve.traffic.pair import Pair
from modelmill.serve.traffic.rollout import Plan, Rollout, advance
from modelmill.serve.traffic.traffic import router_of

RESULTS = Path(__file__).parent / "results" / "rollouts.jsonl"
RATE = 200.0
BASE_S = 0.002
FAILS = 0.001
LONGEST_S = 600.0

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """What the candidate does worse than the live version, and how often the case is run."""

    runs: int
    errors: float = 0.0
    differ: float = 0.0
    slower: float = 1.0
    bad: bool = True


CASES = {
    "errors": Case(100, errors=0.05),
    "nan": Case(100, errors=0.05),
    "slower": Case(100, slower=1.3),
    "differ": Case(100, differ=0.1),
    "equal": Case(1000, differ=0.02, bad=False),
    "edge_errors": Case(200, errors=0.005, bad=False),
    "edge_slower": Case(200, slower=1.1, bad=False),
    "edge_differ": Case(200, differ=0.05, bad=False),
}


class Machine:
    """How much longer than usual everything takes; it changes with the time."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now = 0.0
        self.drift = 0.0
        self.burst = 1.0
        self.change = random.expovariate(1 / 5)

    def factor(self, now: float) -> float:
        passed = max(0.0, now - self.now)
        self.now = max(self.now, now)
        kept = math.exp(-passed / 5)
        self.drift = self.drift * kept + 0.1 * math.sqrt(1 - kept**2) * self.random.gauss(0, 1)
        while self.change < now:
            self.burst = 1.0 if self.burst > 1 else self.random.uniform(1.5, 4)
            self.change += self.random.expovariate(1 / 5 if self.burst == 1 else 1 / 0.5)
        return self.burst * math.exp(self.drift)

    def run(self, now: float, seconds: float) -> float:
        """How long a run takes that begins now."""
        own = math.exp(self.random.gauss(0, 0.3))
        if self.random.random() < 0.01:
            own *= min(50.0, self.random.paretovariate(1.5))
        return seconds * own * self.factor(now)


def simulate(name: str, seed: int) -> Row:
    """One rollout from its beginning to its end."""
    case, random = CASES[name], Random(f"{name} {seed}")
    chance = np.random.default_rng([list(CASES).index(name), seed])
    machine, purse = Machine(random), Purse(0.0)
    rollout = Rollout(1, "model", 2, 1, Plan())
    meters = [Meter(rollout.plan.tolerances, random)]
    requests = exposed = 0
    before = Counts()
    for second in range(int(LONGEST_S)):
        arrivals = np.sort(chance.random(chance.poisson(RATE))) + second
        picked = _picked(rollout, len(arrivals), random)
        requests += len(arrivals)
        exposed += sum(picked)
        failures = chance.random((len(arrivals), 2)) < (FAILS, FAILS + case.errors)
        for now, by_candidate, failed in zip(arrivals.tolist(), picked, failures.tolist(), strict=True):
            _request(case, by_candidate, now, failed, machine, purse, meters[-1])
        rollout = msgspec.structs.replace(rollout, seconds=rollout.seconds + 1)
        counts, step = meters[-1].read(), rollout.step
        rollout = advance(rollout, before.plus(counts), counts).rollout
        if rollout.state != "running":
            shown = {"state": rollout.state, "percent": rollout.plan.shares[step], "seconds": second + 1}
            return {**shown, "reason": rollout.reason, "requests": requests, "exposed": exposed}
        if rollout.step != step:
            before = before.plus(counts)
            meters.append(Meter(rollout.plan.tolerances, random))
            meters[-1].follow(meters[-2])
    return {
        "state": "running",
        "percent": rollout.share,
        "seconds": LONGEST_S,
        "requests": requests,
        "exposed": exposed,
    }


def _picked(rollout: Rollout, count: int, random: Random) -> list[bool]:
    """Which of so many requests the candidate answers."""
    if rollout.share in (0, 100):
        return [rollout.share == 100] * count
    router, versions = router_of(rollout), {"1": 1, "2": 2, "live": 1}
    return [router(f"{random.getrandbits(64):x}", versions) == 2 for _ in range(count)]


def _request(
    case: Case, by_candidate: bool, now: float, failed: list[bool], machine: Machine, purse: Purse, meter: Meter
) -> None:
    """One request; failed: whether the live version, and the candidate, fail at it."""
    taken = purse.has(now)
    if not taken:
        meter.dropped()
    meter.served(by_candidate, failed[by_candidate], taken)
    if not taken:
        return
    random = machine.random
    live_first = random.random() < 0.5
    started = now + BASE_S
    times = {}
    for is_candidate in (not live_first, live_first):
        times[is_candidate] = machine.run(started, BASE_S * (case.slower if is_candidate else 1))
        started += times[is_candidate]
    purse.spend(times[False] + times[True])
    differ = () if any(failed) else (random.random() < case.differ,)
    meter.mirrored(Pair(*failed, times[False], times[True], differ))


def rows() -> list[Row]:
    return [json.loads(line) for line in RESULTS.read_text("utf-8").splitlines()] if RESULTS.exists() else []


def plan(cases: list[str], quick: bool) -> Iterator[tuple[str, int]]:
    done = {(row["case"], row["seed"]) for row in rows()}
    for name in cases:
        runs = max(5, CASES[name].runs // 20) if quick else CASES[name].runs
        yield from ((name, seed) for seed in range(runs) if (name, seed) not in done)


def show() -> None:
    found = rows()
    print("case          runs  back by 5 %  back in all  seconds to it (median, most)  exposed (mean, most)")
    for name in CASES:
        mine = [row for row in found if row["case"] == name]
        if not mine:
            continue
        back = [row for row in mine if row["state"] == "rolled_back"]
        early = [row for row in back if row["percent"] <= 5]
        seconds = sorted(row["seconds"] for row in back) or [math.nan]
        shares = [row["exposed"] / row["requests"] for row in back] or [math.nan]
        print(
            f"{name:<12} {len(mine):>5} {len(early):>12} {len(back):>12}"
            f" {seconds[len(seconds) // 2]:>14.0f} {seconds[-1]:>14.0f}"
            f" {sum(shares) / len(shares):>11.4f} {max(shares):>8.4f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the runs")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--most", type=int, default=10**9, help="so many runs now; the rest another time")
    parser.add_argument("--show", action="store_true", help="only print what is there")
    given = parser.parse_args()
    if not given.show:
        RESULTS.parent.mkdir(exist_ok=True)
        for name, seed in islice(plan(given.cases, given.quick), given.most):
            row = {"case": name, "seed": seed, **simulate(name, seed)}
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
    show()


if __name__ == "__main__":
    main()
