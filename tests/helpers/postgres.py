"""A PostgreSQL server of the tests' own, on a free port of 127.0.0.1 and with a folder of its own."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin")
"""Where packages put the server, beside the PATH."""


def lacking() -> str:
    """What a server needs and is not here; empty where it can be started."""
    if importlib.util.find_spec("psycopg") is None:
        return "the driver psycopg is not installed: pip install 'modelmill[postgresql]'"
    return "" if _binaries() else "no PostgreSQL server is installed: apt-get install postgresql"


@contextmanager
def server() -> Iterator[str]:
    """A running server that lets everybody in: the URL of its databases, without a name at its end."""
    binaries = _binaries()
    assert binaries is not None, "the caller asked what is lacking"
    folder = Path(tempfile.mkdtemp(prefix="modelmill-postgres-"))
    as_other = {}
    if os.getuid() == 0:  # the server does not run as root
        other = pwd.getpwnam("postgres")
        os.chown(folder, other.pw_uid, other.pw_gid)
        as_other = {"user": other.pw_uid, "group": other.pw_gid, "extra_groups": []}
    call = partial(subprocess.run, check=True, capture_output=True, cwd=folder, **as_other)
    call([binaries / "initdb", "-D", folder / "data", "-A", "trust", "-U", "mill", "--no-sync", "-E", "UTF8"])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    control = [binaries / "pg_ctl", "-D", folder / "data", "-w", "-t", "60"]
    log = folder / "log"
    try:
        # Nothing is captured: the server would hold the pipe open.
        call([*control, "-s", "-l", log, "-o", options, "start"], capture_output=False)
        yield f"postgresql+psycopg://mill@127.0.0.1:{port}"
    finally:
        call([*control, "-m", "immediate", "stop"], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path | None:
    """The folder of the server's programs."""
    found = [Path(place) for pattern in FOLDERS for place in sorted(Path("/").glob(pattern[1:]), reverse=True)]
    on_path = shutil.which("pg_ctl")
    folders = [*([Path(on_path).resolve().parent] if on_path else []), *found]
    return next((folder for folder in folders if (folder / "initdb").exists()), None)
