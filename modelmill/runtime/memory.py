"""What a process no longer needs goes back to the system: allocators keep the places of large arrays for later ones."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Give back what is free, where the C library can (glibc); elsewhere nothing happens."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
