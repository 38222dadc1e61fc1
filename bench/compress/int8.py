"""8-bit integers by our recipe against onnxruntime's, NNCF's, Olive's and torchao's: the same files, the same rows.

    python bench/compress/int8.py [--quick] [--seeds 1] [--only MODEL;...] [--arms ours,ort,...] [--fashion FOLDER]
        [--show]

A cell is a network of `zoo.py` and a seed. It is trained and written as a float file once; every arm is given that file
and the same 512 training rows to calibrate on. The arms: `ours`, which tries the STEPS below one by one and keeps the
quickest of those that keep the promise on the validation rows: no slower and no larger by measure, and no more than a
hundredth of the accuracy lost. One of them only cleans, and the float file stays where none keeps it: where integers
are slower, floats are the answer. `ort` is onnxruntime's static quantization as its documentation says (preprocessed,
pairs, signed weights; `ort_channel`: a scale a channel), `nncf` is `nncf.quantize` with its defaults, `olive` the pass
OnnxStaticQuantization, and `torchao` the network itself, without the preparation before it, compiled for this machine
(`int8_torchao.py`; it has no ONNX file and stays in torch). The last three have environments of their own, which are
made where they are missing (`peers_*.txt`). What comes out is judged on the test rows, and all files of a cell are
timed in turns in one run, one row on one thread; torchao's process takes turns with ours.

An arm is dominated by another that is better, beyond the 95 % interval, in accuracy or in time, and in neither worse
beyond it. Intervals are of paired differences over test rows, and of ratios over turns. Rows are in
`results/int8.jsonl`; an arm that is there is not run again, and a cell is timed anew when arms came to it. Files lie
beside it, and are not kept in the repository. `--quick`: two models, rows of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))

from environments import environment

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "int8.jsonl"
ROWS = 512
"""Training rows that all arms calibrate on."""
LOSS = 0.01
FLOAT = "float"
STEPS: dict[str, dict[str, Any]] = {
    "cleaned floats": {"method": "convert.clean"},
    "static": {"method": "quantize.static"},
    "static, 8 bits": {"method": "quantize.static", "weight_bits": 8},
    "static, one scale": {"method": "quantize.static", "per_channel": False},
    "dynamic": {"method": "quantize.dynamic"},
}
TORCH = "torchao"
"""Has no file for our runtime: it is timed in a process of its own, in turns with ours."""
ELSEWHERE = ("nncf", "olive")
"""Those with an environment of their own."""
ROUNDS, CALLS = 15, 200
"""Turns of it, and its calls in each."""
ARMS = ("ours", "ort", "ort_channel", *ELSEWHERE, TORCH)
QUICK = ("mlp, digits", "cnn, digits")
Row = dict[str, Any]


class Cell:
    """A float network, its rows, and what the arms made of it."""

    def __init__(self, name: str, seed: int, fashion: str, place: Path) -> None:
        self.name, self.seed = name, seed
        self.place = place / f"{name.replace(', ', '-').replace(' ', '_')}-{seed}"
        self.place.mkdir(parents=True, exist_ok=True)
        self.fashion = fashion
        self.job, self.splits = self._looked()
        self.calibration = self.splits.train.take(np.arange(min(ROWS, self.splits.train.rows)))

    def _looked(self) -> Any:
        from dataclasses import replace

        import zoo

        from modelmill.recipe.look import look
        from modelmill.spec import read

        data, arch = zoo.ZOO[self.name]
        source: Row = {"method": "builtin", "name": data}
        if data == "fashion":
            source = {"method": "npz", "path": zoo.part(self.fashion, self.seed, self.place)}
        goal = {"maximize": "accuracy", "budget": "1 trials"}
        job = look(read({"data": source, "goal": goal, "arch": arch, "seed": self.seed, "search": {"folds": 1}})).job
        shuffled = np.random.default_rng(self.seed).permutation(job.splits.train.rows)
        return job, replace(job.splits, train=job.splits.train.take(shuffled))

    def file(self, arm: str) -> Path:
        """Where the file of an arm lies."""
        return self.place / f"{arm}.onnx"

    def has(self, arm: str) -> bool:
        """Whether the arm's file and answers are still there."""
        return (self.place / f"{arm}.npy").exists() and (arm == TORCH or self.file(arm).exists())

    def make(self, arm: str) -> str:
        """Make the file of an arm; what there is to say of it."""
        if arm == FLOAT:
            from modelmill.graph.export import export

            model = self._trained()
            self.file(arm).write_bytes(export(model, self.job.task))
            np.savez(self.place / "rows.npz", **self.calibration.columns)
            self._prepared(model)
            return ""
        if arm == "ours":
            return self._ours()
        if arm == TORCH:
            return self._answered()
        given = [str(self.file(FLOAT)), str(self.place / "rows.npz"), str(self.file(arm))]
        python = environment(f"compress-{arm}", HERE / f"peers_{arm}.txt") if arm in ELSEWHERE else sys.executable
        command = [str(python), str(Path(__file__)), "--peer", arm, *given]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            self.file(arm).write_bytes(self.file(FLOAT).read_bytes())
            return "failed: " + done.stderr.strip().rpartition("\n")[2][:200]
        return ""

    def _trained(self) -> Any:
        """The network, trained as a build trains it, in the middle of every range."""
        from modelmill.recipe.grow import train

        steps = train(self.job, {"settings": {}, "seed": self.seed}, self.job.splits, 0.0)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    def _prepared(self, model: Any) -> None:
        """The network and its rows as torchao takes them: without the preparation before it, and the decoding after."""
        import torch

        from modelmill.runtime.features import features

        train, test = (features(model.part, self.job.signature, rows) for rows in (self.calibration, self.splits.test))
        np.savez(self.place / "prepared.npz", train=train, test=test)
        network = torch.export.export(model.body.value.eval(), (torch.from_numpy(test[:1].copy()),))
        torch.export.save(network, self.place / "network.pt2")

    def _answered(self) -> str:
        """Keep which rows torchao answers right; what it died of where it did."""
        process = self.torchao()
        line, _ = process.communicate()
        if process.returncode or not line:
            np.save(self.place / f"{TORCH}.npy", np.zeros(self.splits.test.rows))
            return "failed: " + (self.place / f"{TORCH}.log").read_text().strip().rpartition("\n")[2][:200]
        classes = np.asarray(self.job.signature.classes)
        np.save(self.place / f"{TORCH}.npy", classes[json.loads(line)] == self.splits.test.target)
        return ""

    def torchao(self) -> subprocess.Popen[str]:
        """A process that holds the network as torchao makes it."""
        python, script = environment(f"compress-{TORCH}", HERE / f"peers_{TORCH}.txt"), HERE / f"int8_{TORCH}.py"
        command = [python, script, self.place / "network.pt2", self.place / "prepared.npz", CALLS]
        with (self.place / f"{TORCH}.log").open("w") as log:
            return subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def _ours(self) -> str:
        """The quickest file of those that keep the promise."""
        from dataclasses import replace

        from modelmill.method import decode
        from modelmill.model import Body, Model, Part
        from modelmill.recipe.timing import NOISE, SURE, compare

        plain = self.file(FLOAT).read_bytes()
        best, best_time, said, tried = plain, 1.0, "stays in floats", []
        wanted = self.right(plain, self.splits.valid).mean() - LOSS
        data = replace(self.splits, train=self.calibration)
        for words, table in STEPS.items():
            model = Model((Part(Body("graph", plain)),), self.job.signature)
            step = decode("compress", {**table, "rows": ROWS} if "static" in words else table)
            made = list(step(model, data, self.job.task, lambda _: 0.0, self.seed))[-1].result.body.value
            quality = self.right(made, self.splits.valid).mean()
            if len(made) > len(plain) or quality < wanted - 1e-9:
                tried.append(f"{words}: {quality - wanted - LOSS:+.4f}, {len(plain) / len(made):.2f}x smaller")
                continue
            middle, low, _ = compare([made, plain], self.splits.valid, SURE)
            tried.append(f"{words}: {1 / middle:.2f}x faster")
            if low <= NOISE and middle < best_time:
                best, best_time, said = made, middle, words
        self.file("ours").write_bytes(best)
        return f"{said} ({'; '.join(tried)})"

    def right(self, graph: bytes, rows: Any) -> Any:
        """Which rows are answered right."""
        from modelmill.evaluate.judge import predict

        return np.asarray(predict(graph, rows)["label"] == rows.target)

    def judged(self, arm: str, said: str, cpu_s: float) -> Row:
        """The row of an arm: its accuracy, and by how much it is above that of the float file, with an interval."""
        graph = self.file(arm).read_bytes() if arm != TORCH else b""
        right = self.right(graph, self.splits.test) if arm != TORCH else np.load(self.place / f"{arm}.npy")
        np.save(self.place / f"{arm}.npy", right)
        return {
            "model": self.name,
            "seed": self.seed,
            "arm": arm,
            "accuracy": round(float(right.mean()), 5),
            "bytes": len(graph),
            "said": said,
            "cpu_s": round(cpu_s, 1),
        }

    def beside_torchao(self, graph: bytes) -> tuple[Any, tuple[float, float, float]]:
        """The times of torchao's network, and the ratio of our file's to them: turns of both, one after the other."""
        from modelmill.evaluate.costs.timing import Plan, Series, ratio, time_rows

        process = self.torchao()
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        ours: list[Any] = []
        theirs: list[Any] = []
        for _ in range(ROUNDS):
            process.stdin.write("\n")
            process.stdin.flush()
            theirs.append(np.array(json.loads(process.stdout.readline())))
            ours.append(time_rows([graph], self.splits.test, 1, Plan(0.1, 2, 20))[0].wall_ms)
        process.stdin.close()
        process.wait()

        def series(turns: list[Any]) -> Series:
            return Series(np.concatenate(turns), np.array([np.median(turn) for turn in turns]), np.zeros(len(turns)))

        return series(theirs), ratio(series(ours), series(theirs))

    def against(self, arms: list[str], able: bool) -> Row:
        """All files of the cell in turns; of each pair with ours the ratio and the difference, with intervals.

        able: whether torchao has a network to time.
        """
        from modelmill.evaluate.costs.timing import Plan, ratio, time_rows
        from modelmill.runtime.processor import instructions

        order = [*(arm for arm in arms if arm not in (FLOAT, TORCH)), FLOAT]
        files = {arm: self.file(arm).read_bytes() for arm in order}
        graphs = list(dict.fromkeys(files.values()))  # a file is timed once, whoever gave it
        series = time_rows(graphs, self.splits.test, 1, Plan(1.5, 30, 20))
        by_arm = {arm: series[graphs.index(files[arm])] for arm in order}
        ratios = {arm: ratio(by_arm["ours"], by_arm[arm]) for arm in order if arm != "ours"}
        if able:
            by_arm[TORCH], ratios[TORCH] = self.beside_torchao(files["ours"])
            order.append(TORCH)
        right = {arm: np.load(self.place / f"{arm}.npy").astype(float) for arm in order}
        others = [arm for arm in order if arm != "ours"]
        return {
            "model": self.name,
            "seed": self.seed,
            "timed": order,
            "p50_ms": {arm: round(float(np.median(by_arm[arm].wall_ms)), 5) for arm in order},
            "ratio": {arm: [round(x, 4) for x in ratios[arm]] for arm in others},
            "difference": {arm: difference(right["ours"], right[arm]) for arm in others},
            "machine": instructions(),
        }


def difference(ours: Any, theirs: Any) -> list[float]:
    """By how much our accuracy is above another, and the ends of the 95 % interval over rows."""
    gains, random = ours - theirs, np.random.default_rng(0)
    drawn = gains[random.integers(0, len(gains), (1000, len(gains)))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return [round(float(x), 5) for x in (gains.mean(), low, high)]


def verdict(ratio: list[float], gain: list[float]) -> str:
    """How ours stands to another arm: ratio of times, and difference of accuracies, with their intervals.

    >>> verdict([0.8, 0.7, 0.9], [0.0, -0.01, 0.01]), verdict([0.8, 0.7, 0.9], [-0.02, -0.03, -0.01])
    ('ahead', 'apart')
    """
    better = ratio[2] < 1 or gain[1] > 0
    worse = ratio[1] > 1 or gain[2] < 0
    return {(True, False): "ahead", (False, True): "behind", (True, True): "apart"}.get((better, worse), "equal")


def peer(arm: str, given: str, rows: str, made: str) -> None:
    """Quantize a file with another tool, in its own environment: nothing of modelmill is imported."""
    columns = dict(np.load(rows))
    calls = [
        {name: value[i : i + 1] for name, value in columns.items()} for i in range(len(next(iter(columns.values()))))
    ]
    {"ort": ort, "ort_channel": ort, "nncf": by_nncf, "olive": by_olive}[arm](given, calls, made, arm == "ort_channel")


def ort(given: str, calls: list[Row], made: str, per_channel: bool) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[Row] = iter(calls)

        def get_next(self) -> Row | None:
            return next(self.left, None)

    with tempfile.TemporaryDirectory() as folder:
        quant_pre_process(given, f"{folder}/ready.onnx")
        quantize_static(f"{folder}/ready.onnx", made, Reader(), quant_format=QuantFormat.QDQ, per_channel=per_channel)


def by_nncf(given: str, calls: list[Row], made: str, _: bool) -> None:
    import nncf
    import onnx

    found = nncf.quantize(onnx.load(given), nncf.Dataset(calls), subset_size=len(calls))
    onnx.save(found, made)


def by_olive(given: str, calls: list[Row], made: str, _: bool) -> None:
    from olive.data.config import DataConfig
    from olive.data.registry import Registry
    from olive.model import ONNXModelHandler
    from olive.passes.olive_pass import create_pass_from_dict
    from olive.passes.onnx.quantization import OnnxStaticQuantization

    @Registry.register_dataset("calls")
    def calls_dataset(**_: Any) -> Any:
        return [(call, 0) for call in calls]

    @Registry.register_dataloader("plain")
    def plain(dataset: Any, **_: Any) -> Any:
        return dataset

    data = DataConfig(
        name="calls",
        load_dataset_config={"type": "calls"},
        pre_process_data_config={"type": "skip_pre_process"},
        post_process_data_config={"type": "skip_post_process"},
        dataloader_config={"type": "plain"},
    )
    with tempfile.TemporaryDirectory() as folder:
        step = create_pass_from_dict(OnnxStaticQuantization, {"data_config": data}, disable_search=True)
        found = step.run(ONNXModelHandler(given), f"{folder}/made.onnx")
        Path(made).write_bytes(Path(found.model_path).read_bytes())


def show(rows: list[Row]) -> None:
    """A line an arm, and how often ours is ahead of, equal to, apart from and behind each."""
    figures = {(row["model"], row["seed"], row["arm"]): row for row in rows if "arm" in row}
    counted: dict[str, list[str]] = {}
    for row in {(row["model"], row["seed"]): row for row in rows if "timed" in row}.values():
        for arm in row["timed"]:
            one = figures[row["model"], row["seed"], arm]
            words = one["said"] if arm == "ours" or one["said"].startswith("failed") else ""
            if arm != "ours":
                word = verdict(row["ratio"][arm], row["difference"][arm])
                words = words or word
                if arm != FLOAT and not one["said"].startswith("failed"):
                    counted.setdefault(arm, []).append(word)
            print(
                f"{row['model']:<28}{row['seed']:>3} {arm:<12} {one['accuracy']:.4f}  "
                f"{row['p50_ms'][arm] * 1e3:8.1f} us  {one['bytes'] / 1000 or math.nan:8.1f} kB  {words}"
            )
    for arm, words in counted.items():
        counts = ", ".join(f"{words.count(word)} {word}" for word in ("ahead", "equal", "apart", "behind"))
        print(f"against {arm}: {counts}")


def main() -> None:
    """Run what is asked for and not there yet, and show it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", default="", help="models, with semicolons")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--fashion", default="/usr/share/datasets/fashion-mnist", help="a folder of IDX files")
    parser.add_argument("--show", action="store_true", help="run nothing")
    parser.add_argument("--peer", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        peer(*arguments.peer)
        return
    import torch
    import zoo

    torch.set_num_threads(1)
    results = RESULTS.with_name("quick") / RESULTS.name if arguments.quick else RESULTS
    results.parent.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    networks = [name for name, (_, arch) in zoo.ZOO.items() if arch["method"] not in ("forest", "boosting")]
    names = [name.strip() for name in arguments.only.split(";") if name] or list(QUICK if arguments.quick else networks)
    for seed in () if arguments.show else range(arguments.seeds):
        for name in names:
            for row in new(name, seed, arguments.arms.split(","), arguments.fashion, results, rows):
                rows.append(row)
                with results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    show(rows)


def new(name: str, seed: int, arms: list[str], fashion: str, results: Path, rows: list[Row]) -> Iterator[Row]:
    """The rows of a cell that are not there yet. Without its files a cell is made anew as far as it takes."""
    mine = [row for row in rows if (row["model"], row["seed"]) == (name, seed)]
    known = [row["arm"] for row in mine if "arm" in row]
    if all(arm in known for arm in arms) and any("timed" in row for row in mine):
        return
    cell = Cell(name, seed, fashion, results.with_suffix(""))
    wanted = [FLOAT, *dict.fromkeys(["ours", *arms])]
    found: list[Row] = []
    for arm in wanted:
        if arm in known and cell.has(arm):
            continue
        started = time.process_time()
        said = cell.make(arm)
        row = cell.judged(arm, said, time.process_time() - started)
        if arm not in known:
            found.append(row)
            yield row
    able = TORCH in wanted and not any(row["said"] for row in (*mine, *found) if row.get("arm") == TORCH)
    yield cell.against(wanted, able)


if __name__ == "__main__":
    main()
