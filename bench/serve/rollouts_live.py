"""Rollouts in a running service: bad versions and equal ones, with real models, requests and times.

    python bench/serve/rollouts_live.py [--quick] [--show]

`rollouts.py` simulates many; this is a check of what it assumes. A service runs in this process, and eight threads ask
it 200 times a second together. The model is a chain of matrix products of about a millisecond, with a table of numbers
that is looked up, so that a candidate can do worse in each way:

- `errors`: its table is too short for 1 of 20 requests, at which its run fails;
- `nan`: it takes the logarithm of a number that is negative in 1 of 20 requests;
- `slower`: it has 1.3 times as many products;
- `differ`: it answers otherwise where a number is above 0.9, of numbers between 0 and 1;
- `equal`: it is the same graph.

Steps are short here: 500 pairs, 50 requests and 2 seconds. A line of `results/rollouts_live.jsonl` is one rollout; one
that is there is not run again. Times are those of the machine as it was, with whatever else it did.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.registry.registry import Registry
from modelmill.serve.server import Limits, Service
from modelmill.serve.traffic.book import Book
from modelmill.serve.traffic.changes import rollouts
from modelmill.serve.traffic.rollout import Plan
from modelmill.serve.traffic.start import start
from modelmill.signature import Field, Signature
from modelmill.store.home import Home

RESULTS = Path(__file__).parent / "results" / "rollouts_live.jsonl"
CASES = {"errors": 5, "nan": 5, "slower": 5, "differ": 5, "equal": 10}
WIDTH = 384
LAYERS = 20
RATE = 200.0
THREADS = 8
LONGEST_S = 300.0

Row = dict[str, Any]


def model(case: str) -> tuple[bytes, Signature]:
    """The graph of a case; `live` is what all are compared with."""
    fields = (Field("index", "INT64"), Field("number", "FP32"))
    outputs = (Field("label", "INT64"), Field("score", "FP32"))
    chance = np.random.default_rng(0)
    writer = Writer()
    axis = writer.constant(np.array([1], np.int64))
    column = writer.op("Unsqueeze", ["number", axis])
    block = writer.op("MatMul", [column, writer.constant(np.full((1, WIDTH), 0.01, np.float32))])
    for _ in range(round(LAYERS * 1.3) if case == "slower" else LAYERS):
        weights = chance.normal(0, WIDTH**-0.5, (WIDTH, WIDTH)).astype(np.float32)
        block = writer.op("MatMul", [block, writer.constant(weights)])
    total = writer.op("ReduceSum", [block, axis], {"keepdims": 0})
    table = writer.constant(np.zeros(19 if case == "errors" else 20, np.float32))
    looked = writer.op("Gather", [table, "index"])
    if case == "nan":
        shifted = writer.op("Sub", ["number", writer.constant(np.float32(0.05))])
        logs = writer.op("Log", [shifted])
        looked = writer.op("Add", [looked, writer.op("Mul", [logs, writer.constant(np.float32(1e-9))])])
    writer.rename(writer.op("Add", [total, looked]), "score")
    limit = writer.constant(np.float32(0.9 if case == "differ" else 2.0))
    high = writer.op("Greater", ["number", limit])
    writer.rename(writer.op("Cast", [high], {"to": 7}), "label")
    return to_onnx(writer.fragment(), fields, outputs), Signature(
        "classify", fields, outputs, (0, 1), "label", (1, 0.5)
    )


class Asker(threading.Thread):
    """Asks at random times; it counts who answered."""

    def __init__(self, url: str, seed: int) -> None:
        super().__init__(daemon=True)
        self.netloc = urlsplit(url).netloc
        self.random = random.Random(seed)
        self.stopped = threading.Event()
        self.answered = {1: 0, 2: 0}
        self.failed = 0

    def run(self) -> None:
        connection = http.client.HTTPConnection(self.netloc, timeout=60)
        due = time.monotonic()
        while not self.stopped.is_set():
            due = max(due + self.random.expovariate(RATE / THREADS), time.monotonic() - 1)
            time.sleep(max(0.0, due - time.monotonic()))
            row = {"index": self.random.randrange(20), "number": self.random.random()}
            connection.request("POST", "/predict/model", json.dumps([row]))
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                self.answered[int((answer.headers["modelmill-version"] or "@0").partition("@")[2])] += 1
            else:
                self.failed += 1
        connection.close()


def one(case: str, seed: int) -> Row:
    """One rollout to its end."""
    plan = Plan(pairs=500, requests=50, seconds=2)
    with tempfile.TemporaryDirectory() as folder:
        place = Home(Path(folder))
        registry = Registry(place.database, place.blobs)
        for which in ("live", case):
            onnx, signature = model(which)
            registry.publish("model", {"model.onnx": onnx}, signature)
        with Service(registry, ["model"], limits=Limits()) as service:
            askers = [Asker(service.url, seed * THREADS + n) for n in range(THREADS)]
            for asker in askers:
                asker.start()
            time.sleep(2)
            start(registry, "model@2", plan)
            began = time.monotonic()
            while Book(place.database).running("model") and time.monotonic() - began < LONGEST_S:
                time.sleep(0.1)
            seconds = time.monotonic() - began
            for asker in askers:
                asker.stopped.set()
            for asker in askers:
                asker.join(60)
        found = rollouts(place.database, "model")[0]
        steps = Book(place.database).steps(Book(place.database).latest()[0])
        place.database.close()
    counts = found["evidence"]["counts"]
    return {
        "case": case,
        "seed": seed,
        "state": found["state"],
        "percent": max(step.share for step in steps),
        "seconds": round(seconds, 1),
        "reason": found["reason"],
        "answered": {str(n): sum(asker.answered[n] for asker in askers) for n in (1, 2)},
        "failed": sum(asker.failed for asker in askers),
        "pairs": counts["pairs"],
        "dropped": counts["dropped"],
        "latency": found["evidence"]["latency"],
    }


def rows() -> list[Row]:
    return [json.loads(line) for line in RESULTS.read_text("utf-8").splitlines()] if RESULTS.exists() else []


def show() -> None:
    print("case      runs  back by 5 %  done  seconds  pairs  dropped")
    for case in CASES:
        mine = [row for row in rows() if row["case"] == case]
        back = [row for row in mine if row["state"] == "rolled_back" and row["percent"] <= 5]
        done = [row for row in mine if row["state"] == "done"]
        shown = [[round(row[key]) for row in mine] for key in ("seconds", "pairs", "dropped")]
        print(f"{case:<9} {len(mine):>4} {len(back):>12} {len(done):>5}", *shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one of each case")
    parser.add_argument("--show", action="store_true", help="only print what is there")
    given = parser.parse_args()
    done = {(row["case"], row["seed"]) for row in rows()}
    RESULTS.parent.mkdir(exist_ok=True)
    for case, runs in ({} if given.show else CASES).items():
        for seed in range(1 if given.quick else runs):
            if (case, seed) not in done:
                row = one(case, seed)
                with RESULTS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
    show()


if __name__ == "__main__":
    main()
