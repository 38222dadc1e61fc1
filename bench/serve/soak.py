"""Mixed load on one service for a while, with a fault every second: its memory, its latency, and who was let down.

    python bench/serve/soak.py [--quick] [--minutes 20] [--rate 100] [--workers 1] [--runs 1] [--show]

`modelmill serve` with keys and gRPC is a process of its own, and so is the load (`mixed.py`), which the machine carries
easily. Every second a fault of `faults/` is done to the service, all kinds in turn, in an order that is drawn anew each
time: clients that are wrong, slow, many or gone, HTTP/2 that means no good, a model that is unloaded and loaded,
another version, a canary, keys that come and go. Faults that take longer overlap.

A row of results/soak.jsonl is a twentieth of a run: each second the memory of all processes of the service (`rss_mb`,
and `pss_mb`, where shared pages count once), threads and open files, and the fault that began then (`begun`); how long
good requests took, by kind, as counts by `round(100 ln ms)`; which failed; what faults were told; what `/metrics`
counted. The last row has more: what there is when load and faults are over (`rest`), and what the service wrote of
errors. A run that was cut off is told, and is run anew; one that is whole is not run again.

Asked: the slope of memory below 1 MB an hour after warm-up (a quarter of the time), p99 of the last quarter below 1.1
times that of the second, no good request failed, and no fault answered by a failure of ours. What a large request needs
for some seconds is no slope, and makes that of all seconds anybody's guess (its interval says so): what counts is the
level between, the least of every half minute.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import models
import numpy as np
import psutil
from changes import publish as publish_flowers
from faults import calls, changes, clients, requests
from faults.target import Fault, Target
from homes import Row, keep, mlp, publish, rows
from load import answered
from servers import serving

from modelmill.registry.registry import Registry
from modelmill.serve.access.keys import Keys
from modelmill.serve.access.quota import Quota
from modelmill.signature import Field, Signature
from modelmill.store.home import Home

RESULTS = Path(__file__).with_name("results") / "soak.jsonl"
PARTS = 20
AT_ONCE = 150
"""Faults that may overlap."""
SETTLE_S = 5.0
"""After so long the service has noticed that all are gone."""
BLOCK_S = 30
"""Seconds of memory that are drawn together for the interval."""
OURS = frozenset(("500", "501", "502", "503", "grpc 2", "grpc 13", "grpc 14", "grpc 15"))
"""What is said where the service failed."""
SAMPLED = ("rss_mb", "pss_mb", "threads", "files")


def home_of(folder: Path) -> dict[str, str]:
    """A home with models, tenants and keys, and the keys by what they are for; the tiny model is imported later."""
    models.write("tiny", folder / "tiny.onnx")
    models.write("small", folder / "small.onnx")
    place = folder / "home"
    x, y = Field("x", "FP32", (-1, *models.SHAPES["small"]), "array"), Field("y", "FP32", (-1, 10))
    publish(place, "small", ((folder / "small.onnx").read_bytes(), Signature("compute", (x,), (y,))))
    publish(place, "guest", mlp(0, 256, 8))
    publish_flowers(place)
    home = Home(place)
    with closing(home.database):
        registry, keys = Registry(home.database, home.blobs), Keys(home.database)
        flowers = registry.find("flowers@1").signature
        registry.publish("flowers", {"model.onnx": b"cannot be loaded"}, flowers)
        registry.promote("flowers", 1)
        keys.tenant("theirs", "standard", models=("guest",))
        keys.tenant("other", "basic")
        keys.tenant("meagre", "basic", quota=Quota(2.0))
        found = {name: keys.create(name, tenant=name)[0] for name in ("other", "meagre")}
        found["operator"] = keys.create("operator", roles=("infer", "operate"), tenant="theirs")[0]
        found["router"] = keys.create("router", roles=("operate",))[0]
        found["watch"] = keys.create("watch", roles=("watch",))[0]
        found["revoked"], revoked = keys.create("revoked")
        keys.revoke(revoked.id)
    return found


class Faults:
    """Starts faults and counts what was said to them, in threads of its own."""

    def __init__(self, target: Target) -> None:
        self.target = target
        alone = {**requests.FAULTS, **clients.FAULTS, **calls.FAULTS, **changes.FAULTS}
        self.kinds: dict[str, Fault] = alone | (changes.ONLY_WORKERS if target.workers > 1 else {})
        self.pool = ThreadPoolExecutor(AT_ONCE, "fault")
        self.lock = threading.Lock()
        self.said: dict[str, Counter[str]] = {}
        self.turns = self._turns()

    def _turns(self) -> Iterator[tuple[str, int]]:
        """All kinds in turn, and how often each was done before."""
        draw, names = random.Random(1), list(self.kinds)
        for n in range(10**9):
            yield from ((name, n) for name in draw.sample(names, len(names)))

    def start(self) -> str:
        """Let the next fault happen, and say which."""
        name, n = next(self.turns)
        self.pool.submit(self._do, name, n)
        return name

    def _do(self, name: str, n: int) -> None:
        try:
            for said in self.kinds[name](self.target, n):
                self._count(name, said)
        except Exception as error:
            self._count(name, f"failed: {type(error).__name__}: {error}"[:160])
            raise

    def _count(self, name: str, said: str) -> None:
        with self.lock:
            self.said.setdefault(name, Counter())[said] += 1

    def taken(self) -> Row:
        """What was said since the last time."""
        with self.lock:
            found, self.said = self.said, {}
        return {name: dict(found[name]) for name in sorted(found)}


def sampled(process: psutil.Process) -> list[float]:
    """Memory, threads and open files of a process and all below it, in the order of SAMPLED."""
    found = np.zeros(len(SAMPLED))
    for one in [process, *process.children(recursive=True)]:
        try:
            memory = one.memory_full_info()
            found += memory.rss / 1e6, memory.pss / 1e6, one.num_threads(), one.num_fds()
        except psutil.NoSuchProcess:
            continue
    return [round(float(value), 3) for value in found]


def counted(target: Target) -> dict[str, int]:
    """How many requests `/metrics` has counted, by code."""
    base, key = target.at.url.partition("/v2/")[0], {"Authorization": f"Bearer {target.keys['watch']}"}
    with urllib.request.urlopen(urllib.request.Request(f"{base}/metrics", headers=key), timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    found: Counter[str] = Counter()
    for line in lines:
        if line.startswith("modelmill_requests_total{"):
            found[line.partition('code="')[2].partition('"')[0]] += int(float(line.rpartition(" ")[2]))
    return dict(found)


def run(path: Path, setting: Row) -> None:
    """One run, a row at a time."""
    seconds = 60.0 * setting["minutes"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = home_of(folder)
        command = [sys.executable, "-m", "modelmill.cli", "serve", "--log", str(folder / "access.jsonl")]
        command += ["--workers", str(setting["workers"])] if setting["workers"] > 1 else []
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        with serving("modelmill", folder / "tiny.onnx", folder, command) as at:
            answered(at, "tiny")
            target = Target(at, folder / "home", {**keys, "good": at.key}, setting["workers"])
            before = sampled(at.process)
            for part, row in enumerate(parts(target, setting["rate"], seconds)):
                last = ended(target, folder, before) if part == PARTS - 1 else {}
                told = {"failed": row["failed"], **dict(zip(SAMPLED, row["memory"][-1], strict=True))}
                shown = f"part {part + 1} of {PARTS}: {told}"
                keep(path, {"run": started, "setting": setting, "part": part, **row, **last}, shown)


def parts(target: Target, rate: float, seconds: float) -> Iterator[Row]:
    """The load and the faults, and what was seen of them in each part; the last faults are waited for."""
    where = (target.port, target.at.grpc.rpartition(":")[2], target.keys["good"], rate, seconds, PARTS)
    command = [sys.executable, str(Path(__file__).with_name("mixed.py")), *map(str, where)]
    load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert load.stdout is not None
    faults = Faults(target)
    samples: list[list[float]] = []
    begun: list[str] = []
    lines: list[str] = []
    reader = threading.Thread(target=lambda stream: lines.extend(stream), args=(load.stdout,))
    reader.start()
    due, told = time.monotonic(), 0
    try:
        while reader.is_alive():
            due += 1.0
            time.sleep(max(0.0, due - time.monotonic()))
            begun.append(faults.start())
            samples.append(sampled(target.at.process))
            while told < min(len(lines), PARTS - 1):
                yield _part(samples, begun, lines[told], faults, target)
                samples, begun, told = [], [], told + 1
    finally:
        load.kill()
        faults.pool.shutdown(cancel_futures=True)
    if len(lines) != PARTS:
        raise SystemExit("the load has failed")
    yield _part(samples, begun, lines[-1], faults, target)


def _part(samples: list[list[float]], begun: list[str], load: str, faults: Faults, target: Target) -> Row:
    seen = {"memory": samples, "begun": begun, **json.loads(load)}
    return {**seen, "faults": faults.taken(), "codes": counted(target)}


def ended(target: Target, folder: Path, before: list[float]) -> Row:
    """What there is when all is over, and what the service wrote of errors."""
    time.sleep(SETTLE_S)
    written = (folder / "modelmill.log").read_text("utf-8", "replace").splitlines()
    log = folder / "access.jsonl"
    failures = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
    return {
        "before": dict(zip(SAMPLED, before, strict=True)),
        "rest": dict(zip(SAMPLED, sampled(target.at.process), strict=True)),
        "written": {"lines": len(written), "errors": [line[:200] for line in written if "Error" in line][:20]},
        "logged": {"lines": len(failures), "first": [line[:300] for line in failures[:5]]},
    }


def slope(values: np.ndarray) -> tuple[float, float, float]:
    """Least squares of a value a second, an hour, and its 95 % interval by drawing blocks of what the line leaves."""
    t = np.arange(len(values)) / 3600.0
    fit = np.polynomial.Polynomial.fit(t, values, 1).convert()
    left = values - fit(t)
    rise, size = float(fit.coef[1]), min(BLOCK_S, len(values))
    centred = t - t.mean()
    draw = np.random.default_rng(0)
    found = []
    for _ in range(2000):
        begins = draw.integers(0, len(values), len(values) // size + 1)
        drawn = left[(begins[:, None] + np.arange(size)) % len(values)].ravel()[: len(values)]
        found.append(rise + float(centred @ drawn / (centred @ centred)))
    low, high = np.quantile(found, [0.025, 0.975])
    return rise, float(low), float(high)


def p99(some: list[Row], kinds: tuple[str, ...]) -> float:
    """Of good requests in some rows, in milliseconds."""
    counts: Counter[int] = Counter()
    for row in some:
        for kind in kinds:
            counts.update({int(place): count for place, count in row["times"][kind].items()})
    places = sorted(counts)
    reached = np.cumsum([counts[place] for place in places])
    return float(np.exp(places[int(np.searchsorted(reached, 0.99 * reached[-1]))] / 100))


def drift(found: list[Row], kinds: tuple[str, ...]) -> str:
    """p99 of the last quarter over that of the second, and an interval by drawing parts."""
    second, last = found[PARTS // 4 : PARTS // 2], found[-PARTS // 4 :]
    draw = random.Random(0)
    ratios = [
        p99(draw.choices(last, k=len(last)), kinds) / p99(draw.choices(second, k=len(last)), kinds) for _ in range(500)
    ]
    low, high = np.quantile(ratios, [0.025, 0.975])
    was, now = p99(second, kinds), p99(last, kinds)
    return f"{was:8.2f} -> {now:8.2f} ms, {now / was:.3f} times ({low:.3f} to {high:.3f})"


def show(found: list[Row]) -> None:
    """What a run has shown."""
    print(f"\nrun of {found[0]['run']}, {found[0]['setting']}, {len(found)} of {PARTS} parts")
    if len(found) < PARTS:
        print("  cut off, and not counted")
        return
    memory = np.array([sample for row in found for sample in row["memory"]])
    after = memory[len(memory) // 4 :]
    for place, name in enumerate(SAMPLED[:2]):
        rise, low, high = slope(after[:, place])
        told = f"{rise:+.2f} an hour ({low:+.2f} to {high:+.2f}) in all seconds"
        print(f"  {name}: {after[0, place]:.1f} -> {after[-1, place]:.1f}, {told}")
        whole = after[: len(after) // BLOCK_S * BLOCK_S, place]
        levels = np.repeat(whole.reshape(-1, BLOCK_S).min(axis=1), BLOCK_S)
        rise, low, high = slope(levels)
        print(f"    level: {levels[0]:.1f} -> {levels[-1]:.1f}, {rise:+.2f} an hour ({low:+.2f} to {high:+.2f})")
    for place, name in enumerate(SAMPLED[2:], 2):
        ends = f"{found[-1]['before'][name]:.0f} before, {found[-1]['rest'][name]:.0f} at rest after"
        print(f"  {name}: {np.median(after[:, place]):.0f} in the median, {after[:, place].max():.0f} at most; {ends}")
    kinds = tuple(found[0]["times"])
    for name, chosen in (("all", kinds), *((kind, (kind,)) for kind in kinds)):
        print(f"  p99 of {name:<8}{drift(found, chosen)}")
    good = sum(sum(counts.values()) for row in found for counts in row["times"].values())
    failed: Counter[str] = Counter()
    faults: dict[str, Counter[str]] = {}
    for row in found:
        failed.update(row["failed"])
        for name, said in row["faults"].items():
            faults.setdefault(name, Counter()).update(said)
    print(f"  {good} good requests were answered, {failed.total()} failed: {dict(failed)}")
    print(f"  counted by the service: {found[-1]['codes']}; written: {found[-1]['written']}; {found[-1]['logged']}")
    print(f"  {sum(said.total() for said in faults.values())} answers to faults of {len(faults)} kinds:")
    for name, said in sorted(faults.items()):
        ours = {word: count for word, count in said.items() if word in OURS or word.split()[-1] in OURS}
        lost = {word: count for word, count in said.items() if word.startswith("failed")}
        print(f"    {name:<38}{dict(said.most_common())}{'  <-- ours' if ours else ''}{'  <-- lost' if lost else ''}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one run of a minute and a half")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=100.0, help="good requests a second")
    parser.add_argument("--workers", type=int, default=1, help="processes of the service; with more SIGHUP is a fault")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="run nothing")
    given = parser.parse_args()
    path = RESULTS.with_stem("soak_quick") if given.quick else RESULTS
    minutes = 1.5 if given.quick else given.minutes
    setting = {"minutes": minutes, "rate": given.rate, "workers": given.workers}

    def runs() -> list[list[Row]]:
        by: dict[str, list[Row]] = {}
        for row in rows(path):
            by.setdefault(row["run"], []).append(row)
        return list(by.values())

    def whole() -> int:
        return sum(len(found) == PARTS and found[0]["setting"] == setting for found in runs())

    while not given.show and whole() < given.runs:
        run(path, setting)
    for found in runs():
        show(found)


if __name__ == "__main__":
    main()
