"""The small figures: import, help, listing methods, and writing a network to its ONNX file. Medians of several runs.

python bench/build/quick_figures.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

MODELMILL = str(Path(sys.executable).with_name("modelmill"))


def median_ms(work: Callable[[], object], runs: int = 15) -> float:
    """Median wall time after one run that is not counted, in milliseconds."""
    work()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def process(*command: str) -> Callable[[], object]:
    """Work that runs a command as a process of its own."""
    return lambda: subprocess.run(command, check=True, capture_output=True)


def exports() -> dict[str, Callable[[], object]]:
    """Work that writes one of our own networks to its stripped ONNX file."""
    from modelmill.ask import request
    from modelmill.graph.export import export
    from modelmill.recipe.grow import lookup, untrained
    from modelmill.recipe.look import look
    from modelmill.spec import pick

    found: dict[str, Callable[[], object]] = {}
    for arch in ("cnn", "mlp"):
        job = look(request("digits")).job
        picked = pick(job.spec, lookup({"arch": arch}))
        model = untrained(job, picked, job.splits.train, 0)
        found[f"export of the default {arch} on digits"] = lambda model=model, task=job.task: export(model, task)
    return found


def main() -> None:
    """Print the figures."""
    python = sys.executable
    bare = median_ms(process(python, "-c", "pass"))
    print(f"python itself                          {bare:7.1f} ms")
    print(
        f"import modelmill, above python itself  {median_ms(process(python, '-c', 'import modelmill')) - bare:7.1f} ms"
    )
    print(f"modelmill --help                       {median_ms(process(MODELMILL, '--help')):7.1f} ms")
    print(f"modelmill methods                      {median_ms(process(MODELMILL, 'methods')):7.1f} ms")
    for name, work in exports().items():
        print(f"{name:<38} {median_ms(work):7.1f} ms")


if __name__ == "__main__":
    main()
