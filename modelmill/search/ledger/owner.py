"""Names the process that runs a study, so that no other can be taken for it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil


def me() -> str:
    """This process."""
    return name(os.getpid())


def name(pid: int) -> str:
    """A process of this machine: its host, its number, and when it began, since numbers are used again.

    Raises psutil.Error where there is none.
    """
    return f"{socket.gethostname()} {pid} {_began(pid)}"


def lives(owner: str) -> bool:
    """Whether an owner is a process of this machine that is still there."""
    host, _, rest = owner.partition(" ")
    pid, _, _ = rest.partition(" ")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        return name(int(pid)) == owner and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False


def said(owner: str) -> str:
    """An owner as a person reads it.

    >>> said("mill 4711 boot.99")
    'process 4711 on mill'
    """
    host, _, rest = owner.partition(" ")
    return f"process {rest.partition(' ')[0]} on {host}"


def _began(pid: int) -> str:
    """When a process began, on a clock that nobody sets: what the wall clock says of it changes with the clock."""
    if not Path("/proc/self/stat").exists():
        return f"{psutil.Process(pid).create_time():.2f}"
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
    except OSError:
        raise psutil.NoSuchProcess(pid) from None
    ticks = stat.rpartition(")")[2].split()[19]
    return f"{boot[:8]}.{ticks}"
