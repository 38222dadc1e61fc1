"""The memory of this process and of its machine.

What a process no longer needs goes back to the system: allocators keep the places of large arrays for later ones.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path


def give_back() -> None:
    """Give back what is free, where the C library can (glibc); elsewhere nothing happens."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


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
