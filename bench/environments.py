"""Environments of those who are measured beside us: each has its own, with its own pins."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / ".venv-peers"
DONE = "installed"
"""The file in an environment that has what was pinned when it was made: one that was not finished has none."""


def environment(name: str, pins: Path, base: str = sys.executable) -> Path:
    """The interpreter of an environment, which is made where it is missing, or where its pins are other ones."""
    folder = FOLDER / name
    python, done = folder / "bin" / "python", folder / DONE
    wanted = pins.read_text()
    if not done.exists() or done.read_text() != wanted:
        print(f"making the environment of {name}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        subprocess.run([base, "-m", "venv", str(folder)], check=True, env=own)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "-r", str(pins)], check=True, env=own)
        done.write_text(wanted)
    return python
