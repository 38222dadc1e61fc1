"""torchao's arm of `int8.py`, in its own environment: nothing of modelmill is imported.

    python int8_torchao.py NETWORK ROWS CALLS

NETWORK is a float network that `torch.export` saved, for a batch of one; ROWS are prepared rows (`.npz`: `train` to
calibrate on, `test`). It is quantized as torchao's documentation says for processors (prepared and converted by the
X86InductorQuantizer with its default configuration, then compiled). The first line that comes out are the classes of
the test rows; then, for every line that comes in, the milliseconds of so many CALLS, one row each.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import torch


def quantized(network: Any, rows: Any) -> Any:
    """The compiled 8-bit network."""
    import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as x86
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(network, quantizer)
    for row in rows:
        prepared(row)
    made = convert_pt2e(prepared)
    with suppress(NotImplementedError):
        move_exported_model_to_eval(made)
    return torch.compile(made)


def timed(network: Any, rows: list[Any], calls: int) -> Iterator[float]:
    for number in range(calls):
        row = rows[number % len(rows)]
        started = time.perf_counter()
        network(row)
        yield (time.perf_counter() - started) * 1000


def main() -> None:
    torch.set_num_threads(1)
    given, rows, calls = sys.argv[1:]
    with np.load(rows) as found:
        train, test = ([torch.from_numpy(row[None]) for row in found[name]] for name in ("train", "test"))
    with torch.no_grad():
        network = quantized(torch.export.load(given).module(), train)
        print(json.dumps([int(network(row).argmax()) for row in test]), flush=True)
        for _ in sys.stdin:
            print(json.dumps(list(timed(network, test[:32], int(calls)))), flush=True)


if __name__ == "__main__":
    main()
