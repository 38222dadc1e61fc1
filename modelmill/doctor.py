"""Says what is installed, how many cores, which instructions, and what is missing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from modelmill.runtime.processor import exact_sums, instructions


def examine(home: Path) -> dict[str, Any]:
    """What this machine has for modelmill, as plain values."""
    import psutil

    have = instructions()
    installed, missing = _packages()
    problems = [f"{name} is not installed: pip install 'modelmill[{extra}]'" for name, extra in missing.items()]
    if not exact_sums(have):
        problems.append("no integer dot product (VNNI): int8 models are smaller here, and seldom faster")
    if sys.platform != "linux":
        problems.append("not Linux: one worker, and no memory lease while measuring")
    return {
        "modelmill": version("modelmill"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "instructions": have,
        "home": str(home),
        "home_free_gb": round(shutil.disk_usage(_existing(home)).free / 1e9, 1),
        "energy_counter": _energy_counter(),
        "installed": installed,
        "missing": problems,
    }


def _packages() -> tuple[dict[str, str], dict[str, str]]:
    """Installed packages with their versions, and missing ones with the extra that brings them."""
    installed: dict[str, str] = {}
    missing: dict[str, str] = {}
    for line in requires("modelmill") or []:
        name = re.split(r"[<>=!~;\[ ]", line, maxsplit=1)[0]
        extra = re.search(r"extra == ['\"](\w+)", line)
        if extra and extra[1] == "dev":
            continue
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            missing[name] = extra[1] if extra else "core"
    return installed, missing


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)


def _energy_counter() -> str:
    return "RAPL" if Path("/sys/class/powercap/intel-rapl:0/energy_uj").exists() else "none: energy is modelled"
