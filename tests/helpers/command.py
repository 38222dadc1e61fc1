"""The command `serve`, as people run it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys


@contextlib.contextmanager
def served(home, *arguments):
    """The process, and its URL; it ends with the block."""
    command = [sys.executable, "-c", "from modelmill.cli import main; main()", "serve", "--port", "0", *arguments]
    environment = {**os.environ, "MODELMILL_HOME": str(home)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        said = ""
        while not (found := re.search(r"http://\S+", said)):
            said = process.stderr.readline()
            assert said, "the service ended"
        yield process, found[0]
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=60)
        process.kill()
