"""What it costs that the service tells of itself: one process tells everything, and nothing, in turns.

    python bench/serve/observed.py [--quick] [--rounds 4] [--seconds 60] [--show]

`all`: figures by phase, one in a hundred requests in the access log and one in a thousand traced, as the guide has it,
for a collector that takes what it is sent; `more`: one in a hundred traced, too. The tiny model is asked over JSON at
64 connections. Every second the service is told to tell, or not to (what tells is replaced by nothing), in the order
on, off, off, on: from one process to the next speeds differ by more than what is looked for, and from one second to the
next they do not. A twentieth of a second after each change is left out, in which what was noted before is written.
Spans are sent every five seconds, in whichever state. Asked: 3 % of the requests a second at most. A row of
results/observed.jsonl is one second of a service and round; rounds that are there are not run again. Needs `wrk`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import models
import numpy as np
from load import answered, body_of, loaded
from servers import serving

RESULTS = Path(__file__).with_name("results") / "observed.jsonl"
MODEL = "tiny"
TRACED = {"all": "0.001", "more": "0.01"}

SWITCHED = """
import itertools, json, os, threading, time
from modelmill.cli import main
from modelmill.serve.signals import draw, figures, signals
from modelmill.serve.web import express

asked = itertools.count()
answer = express.Express.answer
def counted(self, *given, **named):
    next(asked)
    return answer(self, *given, **named)
express.Express.answer = counted

def silent(*given, **named):
    pass

never = itertools.repeat(False).__next__
kept, drawn = [], []
begin, draws = figures.Served.__init__, draw.Draw.__init__
def noted(self, *given):
    begin(self, *given)
    kept.append((self, self.encoded, self.ran_one))
def remembered(self, ratio):
    draws(self, ratio)
    drawn.append((self, self.hits))
figures.Served.__init__, draw.Draw.__init__ = noted, remembered
told = {name: getattr(figures.Served, name) for name in ("ran", "waited", "answered")}

def switch(on):
    for name, what in told.items():
        setattr(figures.Served, name, what if on else silent)
    for served, encoded, ran_one in kept:
        served.encoded, served.ran_one = (encoded, ran_one) if on else (silent, silent)
    for each, hits in drawn:
        each.hits = hits if on else never

def turns():
    with open(os.environ["TURNS"], "a", buffering=1) as file:
        for on in itertools.cycle((True, False, False, True)):
            switch(on)
            time.sleep(0.06)
            first, began, spent = next(asked), time.perf_counter(), time.process_time()
            time.sleep(1.0)
            count, seconds = next(asked) - first - 1, time.perf_counter() - began
            row = {"on": on, "requests": count, "rps": count / seconds}
            row["cpu_us"] = 1e6 * (time.process_time() - spent) / max(count, 1)
            file.write(json.dumps(row) + chr(10))

threading.Thread(target=turns, daemon=True).start()
main()
"""

COLLECTOR = """
import http.server

class Taken(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *given):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Taken)
print(server.server_address[1], flush=True)
server.serve_forever()
"""

Row = dict[str, Any]


@contextmanager
def collecting() -> Iterator[str]:
    """The address of a collector of traces, a process of its own."""
    with subprocess.Popen([sys.executable, "-c", COLLECTOR], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def cell(arm: str, seconds: float, folder: Path, collector: str) -> list[Row]:
    """The seconds of one service, each told or not; those in which few came are not whole ones."""
    sent, length = body_of(MODEL, "json")
    body, log, turns = folder / "body", folder / "access.jsonl", folder / "turns.jsonl"
    body.write_bytes(sent)
    turns.unlink(missing_ok=True)
    told = ["--log", str(log), "--log-ratio", "0.01", "--trace-ratio", TRACED[arm]]
    command = [sys.executable, "-c", SWITCHED, "serve", "m", *told]
    with (
        patch.dict(os.environ, OTEL_EXPORTER_OTLP_ENDPOINT=collector, TURNS=str(turns)),
        serving("modelmill", folder / "model.onnx", folder, command) as at,
    ):
        answered(at, MODEL)
        loaded(at, "json", body, length, 64, seconds)
    log.unlink(missing_ok=True)
    found = [json.loads(line) for line in turns.read_text().splitlines()]
    most = max(row["requests"] for row in found)
    stamp = time.strftime("%Y-%m-%d %H:%M")
    return [{"arm": arm, **row, "at": stamp} for row in found if row["requests"] > most / 2]


def ratios(rows: list[Row], key: str) -> np.ndarray:
    """Of every two seconds beside each other, one told and one not: told over not."""
    found, at = [], 0
    while at + 1 < len(rows):
        one, other = rows[at : at + 2]
        if one["on"] != other["on"]:
            on, off = (one, other) if one["on"] else (other, one)
            found.append(on[key] / off[key])
            at += 1
        at += 1
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of twenty seconds")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--show", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    rounds, seconds = (1, 20.0) if arguments.quick else (arguments.rounds, arguments.seconds)
    path = RESULTS.with_stem("observed_quick") if arguments.quick else RESULTS
    path.parent.mkdir(exist_ok=True)
    path.touch()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    known = {(row["arm"], row["round"]) for row in rows}
    with tempfile.TemporaryDirectory() as name, collecting() as collector:
        folder = Path(name)
        models.write(MODEL, folder / "model.onnx")
        for number, arm in () if arguments.show else product(range(rounds), TRACED):
            if (arm, number) in known:
                continue
            found = [{**row, "round": number} for row in cell(arm, seconds, folder, collector)]
            rows += found
            with path.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in found)
            print(f"{arm:<5} {np.median([row['cpu_us'] for row in found]):.1f} us, {len(found)} seconds", flush=True)
    for arm, key in product(TRACED, ("rps", "cpu_us")):
        found = np.concatenate(
            [ratios([r for r in rows if (r["arm"], r["round"]) == (arm, n)], key) for n in range(rounds)]
        )
        if len(found):
            draw = np.random.default_rng(0).integers(0, len(found), (2000, len(found)))
            low, high = np.quantile(np.median(found[draw], axis=1), [0.025, 0.975])
            print(f"{key}: {arm} over nothing {np.median(found):.3f} ({low:.3f} to {high:.3f}), {len(found)} pairs")


if __name__ == "__main__":
    main()
