"""Where a run lies, and what it works with: its folder, its key, its workers, its stopwatch."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from modelmill.recipe.look import Look, digest_of
from modelmill.recipe.timing import Stopwatch
from modelmill.spec import Budget, Spec
from modelmill.store.home import Home

if TYPE_CHECKING:
    from modelmill.execute.local import Pool

TRAINED = "trained"
"""The folder of a run that holds what it trained, as long as it runs."""

PRELOAD = ("torch", "sklearn.ensemble", "sklearn.linear_model", "onnx", "onnxruntime")
"""What every worker needs: loaded once, and shared by all."""


def run_folder(seen: Look, home: Home) -> Path:
    """The folder of a run, named by what the run depends on: the same command finds its own again."""
    folder = home.runs / f"{seen.job.spec.name}-{key_of(seen).removeprefix('sha256:')[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def key_of(seen: Look) -> str:
    """A digest of all that trials depend on: the spec with its seed, and the data."""
    return "sha256:" + hashlib.sha256((digest_of(seen.job.spec) + seen.job.splits.digest).encode()).hexdigest()


def pool(seen: Look, home: Home) -> Pool:
    """Worker processes that make candidates; each is set up with the data once."""
    import psutil

    from modelmill.compress.finished import Finished
    from modelmill.execute.local import Pool
    from modelmill.recipe.account import tools
    from modelmill.recipe.shelf import Shelf
    from modelmill.recipe.worker import worker
    from modelmill.store.cache import Cache

    spec = seen.job.spec
    share_mb = 0.5 * psutil.virtual_memory().total / 1e6 / max(1, spec.workers)
    shelf = Shelf(run_folder(seen, home) / TRAINED)
    finished = Finished(Cache(home.steps), msgspec.json.encode(tools()).decode())
    return Pool(
        spec.workers,
        worker,
        replace(seen.job, shelf=shelf, finished=finished, blobs=home.blobs),
        preload=PRELOAD,
        time_limit_s=float(spec.search.get("trial_seconds", 0)) or time_limit(spec),
        memory_limit_mb=float(spec.search.get("trial_memory_mb", 0)) or share_mb,
    )


def time_limit(spec: Spec) -> float:
    """Seconds after which a trial counts as hung: a budget in seconds is itself the limit."""
    return max(60.0, Budget.parse(spec.goal.budget).seconds or 3600.0)


def stopwatch(seen: Look, home: Home, fresh: bool = False) -> Stopwatch:
    """Times steps of compression, and remembers what it measured as long as the run's folder is there."""
    return Stopwatch(seen.job.splits.valid, home.blobs, run_folder(seen, home) / "timings.json", fresh)
