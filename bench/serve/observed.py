"""What it costs that the service tells of itself: with everything told, and with nothing.

    python bench/serve/observed.py [--quick] [--rounds 10] [--seconds 4] [--show]

`all`: figures by phase, one in a hundred requests in the access log and one in a thousand traced, as the guide has it,
for a collector that takes what it is sent; `more`: one in a hundred traced, too. `none`: the same service, in which
this script has replaced what tells by nothing. All answer the tiny model over JSON at 64 connections, in turns. Asked:
3 % of the requests a second at most. Rows: results/observed.jsonl, one a service and round; those that are there are
not run again. Needs `wrk`.
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
from load import answered, body_of, cpu_s, loaded
from servers import At
from servers import serving as service

RESULTS = Path(__file__).with_name("results") / "observed.jsonl"
MODEL = "tiny"
TRACED = {"all": "0.001", "more": "0.01"}
ARMS = ("none", *TRACED)

NOTHING = """
import itertools
from modelmill.cli import main
from modelmill.serve.signals import draw, figures, signals

def silent(self, *given, **named):
    pass

served = figures.Served.__init__
def quiet(self, *given):
    served(self, *given)
    self.encoded = self.ran_one = lambda value: None
figures.Served.__init__ = quiet
figures.Served.ran = figures.Served.waited = signals.Signals.answered = silent
figures.Served.answered = silent
never = itertools.repeat(False).__next__
draw.Draw.__init__ = lambda self, ratio: setattr(self, "hits", never)
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


@contextmanager
def serving(arm: str, folder: Path, collector: str) -> Iterator[At]:
    """The service as it is, telling all; or one that tells nothing."""
    log, traced = folder / "access.jsonl", TRACED.get(arm)
    told = ["--log", str(log), "--log-ratio", "0.01", "--trace-ratio", traced] if traced else []
    program = ["-m", "modelmill.cli"] if traced else ["-c", NOTHING]
    command = [sys.executable, *program, "serve", "m", *told]
    with (
        patch.dict(os.environ, OTEL_EXPORTER_OTLP_ENDPOINT=collector),
        service("modelmill", folder / "model.onnx", folder, command) as at,
    ):
        yield at
    log.unlink(missing_ok=True)


def cell(arm: str, seconds: float, folder: Path, collector: str) -> Row:
    sent, length = body_of(MODEL, "json")
    body = folder / "body"
    body.write_bytes(sent)
    with serving(arm, folder, collector) as at:
        answered(at, MODEL)
        loaded(at, "json", body, length, 64, 1.0)
        before = cpu_s(at.process)
        row = loaded(at, "json", body, length, 64, seconds)
        spent = cpu_s(at.process) - before
    cpu_us, rps = 1e6 * spent / row["requests"], 1e6 * row["requests"] / row["micros"]
    return {"arm": arm, "cpu_us": round(cpu_us, 1), "rps": round(rps, 1), **row, "at": time.strftime("%Y-%m-%d %H:%M")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rounds of two seconds")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--show", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    rounds, seconds = (2, 2.0) if arguments.quick else (arguments.rounds, arguments.seconds)
    path = RESULTS.with_stem("observed_quick") if arguments.quick else RESULTS
    path.parent.mkdir(exist_ok=True)
    path.touch()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    known = {(row["arm"], row["round"]) for row in rows}
    with tempfile.TemporaryDirectory() as name, collecting() as collector:
        folder = Path(name)
        models.write(MODEL, folder / "model.onnx")
        for number in () if arguments.show else range(rounds):
            for arm in ARMS if number % 2 == 0 else ARMS[::-1]:
                if (arm, number) in known:
                    continue
                row = {**cell(arm, seconds, folder, collector), "round": number}
                rows.append(row)
                with path.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(f"{arm:<5} {row['cpu_us']} us {row['rps']} /s", flush=True)
    by = {(row["arm"], row["round"]): row for row in rows}
    shared = [number for number in range(rounds) if all((arm, number) in by for arm in ARMS)]
    for arm, key in product(TRACED, ("rps", "cpu_us")):
        ratios = np.array([by[arm, number][key] / by["none", number][key] for number in shared])
        if len(ratios):
            draw = np.random.default_rng(0).integers(0, len(ratios), (2000, len(ratios)))
            low, high = np.quantile(np.median(ratios[draw], axis=1), [0.025, 0.975])
            told = f"{np.median(ratios):.3f} ({low:.3f} to {high:.3f}), {len(ratios)} rounds"
            print(f"{key}: {arm} over none {told}")


if __name__ == "__main__":
    main()
