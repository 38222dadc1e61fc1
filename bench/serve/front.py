"""modelmill's service beside its peers: processor time a request of the whole server, requests a second, latency.

    python bench/serve/front.py [--quick] [--models tiny,small] [--wires json,binary,grpc] [--connections 64,1]
                                [--only modelmill,fastapi] [--rounds 5] [--show]

Every server answers the same requests for the same ONNX file, with one thread a run. `modelmill` is as it comes (with
validation, batching and figures) and wants a key; `bare` is a callable on uvicorn that does nothing else, `grpcaio` a
plain servicer of `grpc.aio`; the peers are as their documentation has them, each in an environment of its own
(`peers/NAME.txt`), which is made where it is missing. `bentoml-batch` is BentoML with its batching, which is off as it
comes; both take the same row in a document of their own. `pytriton` is Triton's server with the model as
a function in Python, since its ONNX backend is no package. `limit` is no server: the most rows a second that ONNX
Runtime runs here in a loop, of any batch and any threads. Before it is timed, a server's answer is compared with ONNX
Runtime's own, and it has come to rest.
Servers take turns in every round, so that what the machine does meanwhile hits all of them. Load is wrk's, over gRPC
h2load's with 8 streams on a connection, in a closed loop, on the same cores. A cell (server, model, wire, connections,
round) is a line of results/front.jsonl; one that is there is not run again. Needs `wrk` and `h2load`, and Java for
TorchServe.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import models
import numpy as np
from load import answered, body_of, check, cpu_s, loaded, settled
from servers import HERE, serving

RESULTS = HERE / "results" / "front.jsonl"
TAKES = {
    "json": (
        *("limit", "modelmill", "bare", "fastapi", "mlserver", "kserve", "litserve", "torchserve"),
        *("bentoml", "bentoml-batch", "rayserve", "mlflow"),
    ),
    "binary": ("limit", "modelmill", "kserve", "pytriton"),
    "grpc": ("limit", "modelmill", "grpcaio", "mlserver", "kserve", "pytriton"),
}
"""The servers that are asked over a wire."""

Row = dict[str, Any]


def limit(path: Path, model: str, seconds: float) -> Row:
    """The best loop of ONNX Runtime, of any batch and ways to use the cores, as it runs for as long as a server does.

    Which one that is is tried out for moments before: the best of many moments would be a lucky one.
    """
    import onnxruntime

    cores = os.cpu_count() or 1
    best: Row = {"rps": 0.0}
    for runners, threads in ((1, 1), (cores, 1), (1, cores)):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for batch in (1, 2, 4, 8, 16, 32):
            found = _loop(session, np.repeat(models.sample(model), batch, axis=0), runners, seconds / 6)
            if found["rps"] > best["rps"]:
                how, chosen = {"batch": batch, "runners": runners, "threads": threads}, session
                best = {**found, **how}
    found = _loop(chosen, np.repeat(models.sample(model), how["batch"], axis=0), how["runners"], seconds)
    return {**found, **how, "p50_ms": 0.0, "p99_ms": 0.0, "errors": 0, "rss_mb": 0.0, "cold_s": 0.0}


def _loop(session: Any, x: np.ndarray, runners: int, seconds: float) -> Row:
    """Rows a second, and processor time a row, of threads that run one after the other."""
    ends = time.monotonic() + seconds
    with ThreadPoolExecutor(runners) as pool:
        started, before = time.monotonic(), time.process_time()
        asked = [pool.submit(_runs, session, x, ends) for _ in range(runners)]
        rows = len(x) * sum(each.result() for each in asked)
        took, spent = time.monotonic() - started, time.process_time() - before
    return {"rps": round(rows / took, 1), "cpu_us": round(1e6 * spent / rows, 1)}


def _runs(session: Any, x: np.ndarray, ends: float) -> int:
    count = 0
    while time.monotonic() < ends:
        session.run(["y"], {"x": x})
        count += 1
    return count


def cell(name: str, model: str, wire: str, connections: int, seconds: float, folder: Path) -> Row:
    """One server under load."""
    import onnxruntime

    home = folder / model
    home.mkdir(exist_ok=True)
    path, body = home / "model.onnx", home / f"{wire}.body"
    if not path.exists():
        models.write(model, path)
    which = {"server": name, "model": model, "wire": wire, "connections": connections}
    if name == "limit":
        return {**which, **limit(path, model, seconds), "at": time.strftime("%Y-%m-%d %H:%M")}
    sent, length = body_of(model, wire, name)
    body.write_bytes(sent)
    wanted = onnxruntime.InferenceSession(str(path)).run(["y"], {"x": models.sample(model)})[0].ravel()
    started = time.monotonic()
    with serving(name, path, home) as at:
        found = answered(at, model, wire)
        cold_s = time.monotonic() - started
        np.testing.assert_allclose(found, wanted, atol=1e-4)
        settled(at.process)
        loaded(at, wire, body, length, connections, min(1.0, seconds))
        settled(at.process)
        before = cpu_s(at.process)
        row = loaded(at, wire, body, length, connections, seconds)
        assert row["errors"] < row["requests"], f"{name} answers nothing over {wire}"
        spent = cpu_s(at.process) - before
        memory = sum(one.memory_info().rss for one in [at.process, *at.process.children(recursive=True)])
    return {
        **which,
        "cpu_us": round(1e6 * spent / max(row["requests"], 1), 1),
        "rps": round(1e6 * row["requests"] / row["micros"], 1),
        **row,
        "cold_s": round(cold_s, 2),
        "rss_mb": round(memory / 1e6, 1),
        "at": time.strftime("%Y-%m-%d %H:%M"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of two seconds, without TorchServe")
    parser.add_argument("--models", default="tiny")
    parser.add_argument("--wires", default="json")
    parser.add_argument("--only", default="")
    parser.add_argument("--connections", default="64,1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--show", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    rounds, seconds = (1, 2.0) if arguments.quick else (arguments.rounds, arguments.seconds)
    wires = arguments.wires.split(",")
    servers = arguments.only.split(",") if arguments.only else list(dict.fromkeys(itertools.chain(*TAKES.values())))
    servers = [server for server in servers if server != "torchserve" or not arguments.quick]
    path = arguments.results.with_stem("front_quick") if arguments.quick else arguments.results
    path.parent.mkdir(exist_ok=True)
    path.touch()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    known = {(row["server"], row["model"], row["wire"], row["connections"], row["round"]) for row in rows}
    if not arguments.show:
        check(wires)
    ways = (
        arguments.models.split(","),
        wires,
        map(int, arguments.connections.split(",")),
        servers,
    )
    cells = itertools.product(range(rounds), *ways)
    with tempfile.TemporaryDirectory() as folder:
        for number, model, wire, count, server in () if arguments.show else cells:
            asked = (server, model, wire, count)
            if (*asked, number) in known or server not in TAKES[wire]:
                continue
            row = {**cell(*asked, seconds, Path(folder)), "round": number}
            rows.append(row)
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(*asked, f"{row['cpu_us']} us {row['rps']} /s p50 {row['p50_ms']:.2f} ms", flush=True)
    report(rows)


def report(rows: list[Row]) -> None:
    """Medians over rounds, and modelmill's ratio to each in the same rounds."""
    for which in dict.fromkeys((row["model"], row["wire"], row["connections"]) for row in rows):
        chosen = [row for row in rows if (row["model"], row["wire"], row["connections"]) == which]
        ours = {row["round"]: row for row in chosen if row["server"] == "modelmill"}
        print("\n{}, {}, {} connections".format(*which))
        print(
            f"{'':<14}{'CPU us':>9}{'per s':>9}{'p50 ms':>8}{'p99 ms':>8}{'MB':>6}{'cold s':>7}"
            "  modelmill's requests a second over it; its CPU over ours"
        )
        for server in dict.fromkeys(row["server"] for row in chosen):
            found = [row for row in chosen if row["server"] == server]
            keys = ("cpu_us", "rps", "p50_ms", "p99_ms", "rss_mb", "cold_s")
            cpu, rps, p50, p99, memory, cold = (np.median([row[key] for row in found]) for key in keys)
            told = "" if server == "modelmill" else ratios([(ours[r["round"]], r) for r in found if r["round"] in ours])
            print(f"{server:<14}{cpu:>9.1f}{rps:>9.0f}{p50:>8.2f}{p99:>8.2f}{memory:>6.0f}{cold:>7.2f}  {told}")
        errors = {row["server"]: row["errors"] for row in chosen if row["errors"]}
        if errors:
            print(f"errors: {errors}")


def ratios(pairs: list[tuple[Row, Row]]) -> str:
    """How many times as fast and as cheap as a peer, of the same rounds: median and range."""
    if not pairs:
        return ""
    faster = [ours["rps"] / row["rps"] for ours, row in pairs]
    cheaper = [row["cpu_us"] / ours["cpu_us"] for ours, row in pairs]
    return "; ".join(f"{np.median(each):.2f} ({min(each):.2f} to {max(each):.2f})" for each in (faster, cheaper))


if __name__ == "__main__":
    main()
