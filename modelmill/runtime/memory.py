"""The memory of this process and of its machine.

What a process no longer needs goes back to the system: allocators keep the places of large arrays for later ones.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

APART_BYTES = 4 << 20
"""What is larger has pages of its own, which go back as soon as it is freed; that costs a part of filling them."""
TOP_BYTES = 16 << 20
"""So much of what is free at the end of the heap is kept for what comes next."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""As mallopt(3) numbers them."""


def keep_apart() -> None:
    """Let large blocks lie apart from small ones for as long as this process lives, where the C library can (glibc).

    By itself it moves that bound up to 32 MB with every large block that is freed, and from then on keeps up to 64 MB.
    """
    mallopt = _of_libc("mallopt")
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, APART_BYTES)
        mallopt(M_TRIM_THRESHOLD, TOP_BYTES)


def bound(most_bytes: int) -> None:
    """Let whatever would make this process larger than that fail, from now on, and not end it (Linux).

    Counted is what it may write, whether it has done so or not; files that are mapped to be read are not.
    """
    if sys.platform == "linux":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most_bytes = most_bytes if hard == resource.RLIM_INFINITY else min(most_bytes, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, hard))


def give_back() -> None:
    """Give back what is free, where the C library can (glibc); elsewhere nothing happens."""
    trim = _of_libc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_libc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def machine_bytes() -> int:
    """The memory that this process may have: the machine's, or what its control group allows."""
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")] if hasattr(os, "sysconf") else [8 << 30]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text("ascii").strip()
        except (OSError, ValueError):
            continue
        sizes += [int(text)] if text.isdigit() else []
    return min(sizes)


def resident_bytes() -> int:
    """The memory of this process that is there now; 0 where the machine does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
