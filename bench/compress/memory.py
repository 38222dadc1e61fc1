"""How much memory compressing a large ONNX file takes, above the idle process, in units of the file.

    python bench/compress/memory.py [--megabytes 100] [--only static,clean] [--quick] [--show]

The file is a fully connected network of five layers of one width. Every step runs in a process of its own, which first
takes a small file through the same step, so that all libraries are loaded; then the kernel's high-water mark of
resident memory is set back, the file is read, and the step runs. The file's own bytes and those of the result count. A
step that is in `results/memory.jsonl` for that size is not run again; `--quick` uses a file of 10 MB and keeps nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

RESULTS = Path(__file__).parent / "results" / "memory.jsonl"
LAYERS = 5
LIMIT = 4.0

STEPS: dict[str, dict[str, Any]] = {
    "convert.clean": {},
    "quantize.static": {"rows": 64},
    "quantize.dynamic": {},
    "quantize.blocks": {},
    "quantize.blocks, 8 bits": {"bits": 8, "symmetric": False},
    "quantize.float16": {},
    "quantize.codebook": {"epochs": 0},
    "quantize.codebook, 8 bits": {"bits": 8, "epochs": 0},
    "quantize.gptq": {"rows": 64},
    "quantize.gptq, blocks": {"rows": 64, "block": 32},
    "quantize.smooth": {"rows": 64},
    "quantize.fixed_point": {"rows": 64},
    "quantize.mixed": {"rows": 64},
    "factor.svd": {"epochs": 0, "by": "ratio"},
    "prune.subset": {"epochs": 0, "rows": 64},
}


def network(megabytes: float) -> bytes:
    """The bytes of a file of about that size."""
    from onnx import TensorProto, helper, numpy_helper

    width = round((megabytes * 1e6 / 4 / LAYERS) ** 0.5)
    random = np.random.default_rng(0)
    nodes, tensors, value = [], [], "x"
    for layer in range(LAYERS):
        last = layer == LAYERS - 1
        weight = random.normal(size=(width, width)).astype(np.float32) * np.float32((2 / width) ** 0.5)
        tensors += [numpy_helper.from_array(weight, f"w{layer}"), numpy_helper.from_array(weight[0], f"b{layer}")]
        result = "value" if last else f"h{layer}"
        nodes.append(helper.make_node("Gemm", [value, f"w{layer}", f"b{layer}"], [result if last else f"g{layer}"]))
        if not last:
            nodes.append(helper.make_node("Relu", [f"g{layer}"], [result]))
        value = result
    given, wanted = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", width]) for name in ("x", "value"))
    graph = helper.make_graph(nodes, "large", [given], [wanted], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = made.SerializeToString()
    return data


def compressed(path: Path, step: str) -> int:
    """Take a file through a step, as the recipe does; the bytes of the result."""
    from modelmill.dataset import Dataset, Splits
    from modelmill.graph.decode import describe
    from modelmill.method import decode
    from modelmill.model import Body, Model, Part
    from modelmill.signature import Signature
    from modelmill.task.regress import Regress

    data = path.read_bytes()
    inputs, outputs = describe(data)
    model = Model((Part(Body("graph", data)),), Signature("regress", inputs, outputs))
    rows = np.random.default_rng(1).normal(size=(64, inputs[0].shape[1])).astype(np.float32)
    part = Dataset(inputs, {"x": rows}, np.zeros(64, np.float32), "y")
    method = decode("compress", {"method": step.partition(",")[0], **STEPS[step]})
    result = None
    for progress in method(model, Splits(part, part, part), Regress(), lambda _: 0.0, 0):
        result = progress.result
    assert result is not None
    return len(result.body.value)


def status(name: str) -> int:
    """Bytes that the kernel tells of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def child(small: Path, large: Path, step: str) -> dict[str, Any]:
    """What one step takes, in this process."""
    import gc

    compressed(small, step)
    gc.collect()
    idle = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    start = time.perf_counter()
    after = compressed(large, step)
    seconds, before = time.perf_counter() - start, large.stat().st_size
    above = status("VmHWM") - idle
    return {"step": step, "bytes": before, "after": after, "idle": idle, "above": above, "seconds": round(seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=100.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--child", nargs=3, metavar=("SMALL", "LARGE", "STEP"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        small, large, step = given.child
        print(json.dumps(child(Path(small), Path(large), step)))
        return
    megabytes = 10.0 if given.quick else given.megabytes
    known = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    rows = {} if given.quick else {row["step"]: row for row in known if row["megabytes"] == megabytes}
    wanted = [step for step in STEPS if not given.only or any(part in step for part in given.only.split(","))]
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small.onnx", Path(folder) / "large.onnx"
        small.write_bytes(network(0.1))
        large.write_bytes(network(megabytes))
        for step in wanted:
            if step in rows or given.show:
                continue
            command = [sys.executable, __file__, "--child", str(small), str(large), step]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                print(f"{step}: failed", file=sys.stderr)
                continue
            rows[step] = {"megabytes": megabytes, **json.loads(done.stdout)}
            if not given.quick:
                RESULTS.parent.mkdir(exist_ok=True)
                with RESULTS.open("a") as file:
                    file.write(json.dumps(rows[step]) + "\n")
            show(rows[step])
    if given.show:
        for step in wanted:
            if step in rows:
                show(rows[step])


def show(row: dict[str, Any]) -> None:
    ratio = row["above"] / row["bytes"]
    kept = "" if ratio <= LIMIT else "  over the limit"
    size = f"{row['bytes'] / 1e6:.0f} to {row['after'] / 1e6:.1f} MB"
    print(f"{row['step']:26} {ratio:5.2f}x the file  {size}  {row['seconds']:.1f} s{kept}")


if __name__ == "__main__":
    main()
