"""What several rooms' tests share: a home of their own, and one model that is really built."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MODELMILL = [sys.executable, "-m", "modelmill.cli"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder of this test alone."""
    folder = tmp_path / "home"
    monkeypatch.setenv("MODELMILL_HOME", str(folder))
    monkeypatch.delenv("MODELMILL_DATABASE_URL", raising=False)
    monkeypatch.delenv("MODELMILL_STORE_URL", raising=False)
    return folder


@pytest.fixture
def run(home):
    """Run the command line in a process of its own: (exit code, standard output, standard error)."""

    def command(*arguments, timeout=300):
        done = subprocess.run(
            [*MODELMILL, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, check=False
        )
        return done.returncode, done.stdout, done.stderr

    return command


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """A home in which `iris@1` was built from the command line, and the JSON that the build printed."""
    folder = tmp_path_factory.mktemp("built") / "home"
    environment = {**os.environ, "MODELMILL_HOME": str(folder)}
    command = [*MODELMILL, "build", "iris", "--budget", "4 trials", "--workers", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@pytest.fixture
def in_built(built, monkeypatch):
    """The home of `iris@1`, as this test's home."""
    monkeypatch.setenv("MODELMILL_HOME", str(built[0]))
    return Path(built[0])
