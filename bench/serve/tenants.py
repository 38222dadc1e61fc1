"""A basic tenant at ten times its quota beside an advanced one: what passes, what it costs, and what the other feels.

    python bench/serve/tenants.py [--quick] [--quota 100] [--show]

`modelmill serve` is a process of its own, and so is each load, over kept connections. The advanced tenant sends 50
requests a second, at random times (Poisson). Parts alternate: it is alone, or the basic tenant sends at ten times its
quota beside it, evenly spread. A part tells how many of the basic tenant's requests passed against the quota, the
advanced tenant's percentiles, and the processor time of the service, which noise moves least. A line of
`results/tenants.jsonl` is a pair of parts; one that is there is not run again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from changes import publish

RESULTS = Path(__file__).parent / "results" / "tenants.jsonl"
ROOT = Path(__file__).parents[2]
PAIRS = 10
STEADY = 50.0
"""Requests a second of the advanced tenant."""

Row = dict[str, Any]


def main() -> None:
    """Run what is missing, or show what is there; or, as a child, be a load."""
    arguments = parser().parse_args()
    if arguments.load:
        asyncio.run(load(*arguments.load))
        return
    if not arguments.show:
        run(arguments)
    show()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="two pairs of 5 s in place of ten of 30 s")
    made.add_argument("--quota", type=float, default=100.0, help="the basic tenant's requests a second")
    made.add_argument("--show", action="store_true", help="run nothing")
    made.add_argument("--load", nargs=4, help=argparse.SUPPRESS)
    return made


def run(arguments: argparse.Namespace) -> None:
    """Run the pairs that are missing."""
    from modelmill.serve.access.keys import Keys
    from modelmill.serve.access.quota import Quota
    from modelmill.store.home import Home

    RESULTS.parent.mkdir(exist_ok=True)
    seconds, pairs = (5.0, 2) if arguments.quick else (30.0, PAIRS)
    setting = {"quota": arguments.quota, "seconds": seconds}
    done = {row["pair"] for row in rows() if row["setting"] == setting}
    with tempfile.TemporaryDirectory() as folder:
        publish(Path(folder))
        keys = Keys(Home(Path(folder)).database)
        keys.tenant("small", "basic", quota=Quota(arguments.quota))
        keys.tenant("large", "advanced")
        small, large = (keys.create(name, tenant=name)[0] for name in ("small", "large"))
        process, url = serve(folder)
        try:
            for pair in (pair for pair in range(pairs) if pair not in done):
                alone = part(process.pid, url, seconds, {large: STEADY})
                beside = part(process.pid, url, seconds, {large: STEADY, small: arguments.quota * 10})
                row = {"pair": pair, "setting": setting, **told(alone, beside, large, small, arguments.quota, seconds)}
                with RESULTS.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)
        finally:
            process.terminate()
            process.wait(30)


def serve(home: str) -> tuple[subprocess.Popen[str], str]:
    """A service, and where it is."""
    process = subprocess.Popen(
        [sys.executable, "-m", "modelmill.cli", "serve", "--port", "0", "--no-grpc"],
        env={**os.environ, "MODELMILL_HOME": home, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "modelmill serves" in line:
            return process, line.split()[2]
    raise SystemExit("the service did not start")


def part(pid: int, url: str, seconds: float, rates: dict[str, float]) -> Row:
    """What each load has seen, by its key, and the processor seconds of the service."""
    before = psutil.Process(pid).cpu_times()
    command = [sys.executable, __file__, "--load", url]
    loads = {
        key: subprocess.Popen([*command, key, str(rate), str(seconds)], stdout=subprocess.PIPE, text=True)
        for key, rate in rates.items()
    }
    found = {key: json.loads(process.communicate()[0]) for key, process in loads.items()}
    after = psutil.Process(pid).cpu_times()
    return {"cpu_s": after.user + after.system - before.user - before.system, **found}


def told(alone: Row, beside: Row, large: str, small: str, quota: float, seconds: float) -> Row:
    """A pair of parts as a row."""
    refused = beside[small]["codes"].get("429", 0)
    extra_s = beside["cpu_s"] - alone["cpu_s"]
    passed = beside[small]["codes"].get("200", 0)
    return {
        "passed_ratio": passed / (quota * beside[small]["seconds"]),
        "refused": refused,
        "others": {code: n for code, n in beside[small]["codes"].items() if code not in ("200", "429")},
        "cpu_us_beside": 1e6 * extra_s / max(1, refused + passed),
        "p50_ms": [alone[large]["p50_ms"], beside[large]["p50_ms"]],
        "p99_ms": [alone[large]["p99_ms"], beside[large]["p99_ms"]],
        "large_failed": sum(n for code, n in beside[large]["codes"].items() if code != "200"),
        "seconds": seconds,
    }


async def load(url: str, key: str, rate_text: str, seconds_text: str) -> None:
    """Send at a rate, whether or not answers come, and print what came."""
    rate, seconds = float(rate_text), float(seconds_text)
    parts = urlsplit(url)
    body = b"[[3, 1]]"
    lines = ("POST /predict/flowers HTTP/1.1", "Host: localhost", f"Authorization: Bearer {key}", "Content-Length: 8")
    request = "\r\n".join((*lines, "", "")).encode() + body
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    codes: dict[str, int] = {}
    took: list[float] = []

    async def one(due: float) -> None:
        reader, writer = idle.pop() if idle else await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        idle.append((reader, writer))
        code = answer.split()[1].decode()
        codes[code] = codes.get(code, 0) + 1
        took.append(loop.time() - due)

    loop = asyncio.get_running_loop()
    steady = rate > STEADY
    draw = random.Random(1)
    begin = due = loop.time()
    tasks = []
    while due < begin + seconds:
        await asyncio.sleep(max(0.0, due - loop.time()))
        tasks.append(asyncio.create_task(one(due)))
        due += 1 / rate if steady else draw.expovariate(rate)
    await asyncio.gather(*tasks)
    took.sort()
    ended = loop.time() - begin
    for _, writer in idle:
        writer.close()
    at = {f"p{n}_ms": 1000 * took[min(len(took) - 1, int(len(took) * n / 100))] for n in (50, 99)}
    print(json.dumps({"codes": codes, "seconds": ended, **at}))


def rows() -> list[Row]:
    """What was measured."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def show() -> None:
    """Print medians over pairs, by setting."""
    from statistics import median

    for setting in sorted({json.dumps(row["setting"]) for row in rows()}):
        found = [row for row in rows() if json.dumps(row["setting"]) == setting]
        print(f"{setting}, {len(found)} pairs")
        print(f"  passed of the quota      {median(row['passed_ratio'] for row in found):.4f}")
        print(f"  us a request beside      {median(row['cpu_us_beside'] for row in found):.0f}")
        for name in ("p50_ms", "p99_ms"):
            alone, beside = (median(row[name][i] for row in found) for i in (0, 1))
            print(f"  advanced {name}          {alone:.2f} alone, {beside:.2f} beside ({beside / alone:.2f}x)")


if __name__ == "__main__":
    main()
