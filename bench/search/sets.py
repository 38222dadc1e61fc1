"""The data sets of the searches that are compared: scikit-learn's, and parts of Fashion-MNIST."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FASHION = Path("/usr/share/datasets/fashion-mnist")

BUILTIN = ("iris", "wine", "breast_cancer", "digits", "diabetes")
PARTS: Mapping[str, Sequence[int]] = {
    "fashion": range(10),
    "fashion_tops": (0, 2, 4, 6),
    "fashion_shoes": (5, 7, 9),
    "fashion_trousers": (1, 3),
    "fashion_bags": (0, 3, 6, 8),
}
"""Parts of Fashion-MNIST: some of the classes."""
ROWS = {"path": 400, "test": 2000}
"""Rows to search with, and for the test. With 2,000 and with 700 of the first, and a minute, an arm trained three to
eight networks, and which came first decided all. With these it trains a dozen: settled on seeds from 100 on."""
SETS = (*BUILTIN, *PARTS)

Row = dict[str, Any]


def source(name: str, rows: Mapping[str, int] = ROWS) -> Row:
    """The data table of a set's spec; parts of Fashion-MNIST are cut into files beside the temporary ones.

    rows: so many to search with (`path`), and for the test (`test`), which search never sees.
    """
    if name in BUILTIN:
        return {"method": "builtin", "name": name}
    table: Row = {"method": "npz"}
    for part, count in rows.items():
        path = Path(tempfile.gettempdir()) / f"modelmill_{name}_{part}_{count}.npz"
        if not path.exists():
            stem = "train" if part == "path" else "t10k"
            images, labels = _idx(f"{stem}-images-idx3-ubyte"), _idx(f"{stem}-labels-idx1-ubyte")
            found = np.flatnonzero(np.isin(labels, list(PARTS[name])))
            found = np.random.default_rng(0).permutation(found)[:count]
            np.savez_compressed(path, x=images[found], y=labels[found].astype(np.int64))
        table[part] = str(path)
    return table


def _idx(stem: str) -> np.ndarray:
    import gzip

    path = next(path for path in FASHION.iterdir() if path.name.startswith(stem))
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    axes = data[3]
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes)]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)


def job_of(name: str, seed: int) -> Any:
    """The job of a set with the mill's own spaces, three objectives, and one holdout."""
    from modelmill.recipe.look import look
    from modelmill.spec import read

    metric = "r2" if name == "diabetes" else "accuracy"
    goal = {"maximize": metric, "minimize": ["latency_ms", "size_kb"], "budget": "10000 trials"}
    return look(read({"data": source(name), "goal": goal, "seed": seed, "search": {"folds": 1}})).job
