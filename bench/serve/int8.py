"""Models in 8-bit integers beside the floats that they were made from: requests a second of one service, in turns.

    python bench/serve/int8.py [--quick] [--models tiny,small,medium] [--rounds 5] [--seconds 4] [--show]

Each model of models.py is taken in by `modelmill import` and goes through `modelmill compress` with one step,
`quantize.static` with scales from random rows, which is insisted on; weights are random, so that any loss is allowed.
The command still publishes only what is no slower than the floats. What came out is a row of results/int8.jsonl
(`way`: `compress`): `published` or not, bytes, the time of a row against the floats', and the processor's instructions.

The other rows are cells of a model, a way, connections, a version (`float`, `int8`) and a round. `service`: one
`modelmill serve` with both versions, binary tensors, wrk in a closed loop; only where integers were published. `bare`:
the most rows a second that ONNX Runtime runs in a loop on the file, of any batch and any threads, also of a file that
was not published. Versions take turns in every round. Asked: on processors with VNNI, 2.5 times the float requests a
second. Homes lie in results/int8/, which is not in the repository, and are used again; a row that is there is not run
again. Needs `wrk`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import models
import numpy as np
from front import limit, ratios
from homes import Row, keep, rows
from load import answered, body_of, check, cpu_s, loaded
from servers import HERE, At, keyed, serving

from modelmill.runtime.processor import exact_sums, instructions
from modelmill.store.home import Home

RESULTS = HERE / "results" / "int8.jsonl"
CONNECTIONS = {"tiny": (8, 64), "small": (8,), "medium": (8,)}
ROWS = {"tiny": 512, "small": 512, "medium": 64}
"""Rows that scales come from, and the promise is tried on."""
VERSIONS = {"float": 1, "int8": 2}
RECIPE = """
[[compress]]
method = "quantize.static"
insist = true
weight_bits = {bits}
"""


def compressed(model: str, folder: Path) -> Row:
    """What `modelmill compress` makes of a model, in a home of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    have = instructions()
    models.write(model, folder / "float.onnx")
    x = np.random.default_rng(2).normal(size=(ROWS[model], *models.SHAPES[model])).astype(np.float32)
    np.savez(folder / "rows.npz", x=x)
    (folder / "recipe.toml").write_text(RECIPE.format(bits=8 if exact_sums(have) else 7))
    env = {**os.environ, "MODELMILL_HOME": str(folder / "home")}
    keyed(folder / "float.onnx", folder, env)
    command = [sys.executable, "-m", "modelmill.cli", "compress", "m@1", "--data", str(folder / "rows.npz"), "--json"]
    command += ["--recipe", str(folder / "recipe.toml"), "--allow-loss", "0.99"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{model}: {done.stderr}")
    report = json.loads(done.stdout)
    (step,) = report["details"]["steps"]
    home = Home(folder / "home")
    for name, digest in zip(VERSIONS, step["graphs"], strict=True):
        (folder / f"{name}.onnx").write_bytes(home.blobs.get(digest))
    return {
        "published": report["version"] == VERSIONS["int8"],
        "bytes": step["size_bytes"],
        "latency_ratio": [round(value, 3) for value in step["latency_ratio"]],
        "agreement": report["metrics"]["agreement"]["value"],
        "seconds": report["seconds"],
        "vnni": exact_sums(have),
        "instructions": have,
    }


def turns(round_: int) -> tuple[str, ...]:
    """The versions, each of them first in every other round."""
    return tuple(VERSIONS) if round_ % 2 == 0 else tuple(reversed(VERSIONS))


def bare(model: str, folder: Path, known: set[tuple[object, ...]], rounds: int, seconds: float) -> Iterator[Row]:
    """ONNX Runtime alone, on both files."""
    for round_ in range(rounds):
        for version in turns(round_):
            which = {"model": model, "way": "bare", "connections": 0, "version": version, "round": round_}
            if tuple(which.values()) not in known:
                yield {**which, **limit(folder / f"{version}.onnx", model, seconds)}


def service(model: str, folder: Path, known: set[tuple[object, ...]], rounds: int, seconds: float) -> Iterator[Row]:
    """One service with both versions, which are loaded in turns."""
    import onnxruntime

    cells = [
        {"model": model, "way": "service", "connections": connections, "version": version, "round": round_}
        for round_ in range(rounds)
        for connections in CONNECTIONS[model]
        for version in turns(round_)
    ]
    cells = [cell for cell in cells if tuple(cell.values()) not in known]
    if not cells:
        return
    sent, length = body_of(model, "binary")
    body = folder / "binary.body"
    body.write_bytes(sent)
    command = [sys.executable, "-m", "modelmill.cli", "serve"]
    with serving("modelmill", folder / "float.onnx", folder, command) as at:
        answered(at, model)
        both = {name: of_version(at, number) for name, number in VERSIONS.items()}
        for version, there in both.items():
            session = onnxruntime.InferenceSession(str(folder / f"{version}.onnx"))
            wanted = session.run(["y"], {"x": models.sample(model)})[0].ravel()
            np.testing.assert_allclose(answered(there, model), wanted, atol=1e-4)
            loaded(there, "binary", body, length, 8, min(1.0, seconds))
        for cell in cells:
            before = cpu_s(at.process)
            row = loaded(both[str(cell["version"])], "binary", body, length, int(str(cell["connections"])), seconds)
            cpu_us = round(1e6 * (cpu_s(at.process) - before) / max(row["requests"], 1), 1)
            yield {**cell, "rps": round(1e6 * row["requests"] / row["micros"], 1), "cpu_us": cpu_us, **row}


def of_version(at: At, number: int) -> At:
    """Where a version of the model answers."""
    return replace(at, url=at.url.replace("/infer", f"/versions/{number}/infer"))


def run(path: Path, homes: Path, chosen: list[str], rounds: int, seconds: float) -> None:
    """Run what is missing."""
    check(["binary"])
    for model in chosen:
        folder = homes / model
        found = [row for row in rows(path) if row["model"] == model]
        known = {tuple(row[key] for key in ("model", "way", "connections", "version", "round")) for row in found}
        came = next((row for row in found if row["way"] == "compress"), None)
        if came is None or not (folder / "int8.onnx").exists():
            which = {"model": model, "way": "compress", "connections": 0, "version": "int8", "round": 0}
            came = {**which, **compressed(model, folder)}
            keep(path, came)
        for row in bare(model, folder, known, rounds, seconds):
            keep(path, row)
        for row in service(model, folder, known, rounds, seconds) if came["published"] else ():
            keep(path, row)


def show(found: list[Row]) -> None:
    """What came out, and how many times as many requests a second integers answer, by rounds."""
    for row in (row for row in found if row["way"] == "compress"):
        before, after = row["bytes"]
        said = "published" if row["published"] else "nothing is published"
        vnni = "with" if row["vnni"] else "without"
        ratio, low, high = row["latency_ratio"]
        print(f"{row['model']}: {before} -> {after} bytes, a row takes {ratio} ({low} to {high}) times as long, {said}")
        print(f"  agreement {row['agreement']:.4f}, {vnni} VNNI ({' '.join(row['instructions'])})")
        cells = [cell for cell in found if cell["model"] == row["model"] and cell["way"] != "compress"]
        for which in sorted({(cell["way"], cell["connections"]) for cell in cells}):
            here = [cell for cell in cells if (cell["way"], cell["connections"]) == which]
            of = {name: {cell["round"]: cell for cell in here if cell["version"] == name} for name in VERSIONS}
            floats, integers = of.values()
            both = sorted(floats.keys() & integers.keys())
            if not both:
                continue
            was, now = (np.median([cells[n]["rps"] for n in both]) for cells in (floats, integers))
            errors = sum(cell["errors"] for cell in here)
            told = ratios([(integers[n], floats[n]) for n in both])
            print(f"  {which[0]:<8}{which[1]:>3} connections {was:>9.0f} -> {now:>9.0f} /s  {told}, {errors} errors")
    print("ratios: requests a second of integers over floats; processor time of floats over integers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rounds of a second, without the medium model")
    parser.add_argument("--models", default="tiny,small,medium")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--show", action="store_true", help="run nothing")
    given = parser.parse_args()
    path = RESULTS.with_stem("int8_quick") if given.quick else RESULTS
    rounds, seconds = (2, 1.0) if given.quick else (given.rounds, given.seconds)
    chosen = [model for model in given.models.split(",") if model != "medium" or not given.quick]
    if not given.show:
        run(path, HERE / "results" / "int8" / path.stem, chosen, rounds, seconds)
    show(rows(path))


if __name__ == "__main__":
    main()
