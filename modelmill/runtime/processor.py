"""What the processor can do that decides how fast numbers are, and whether sums of bytes are exact."""

from __future__ import annotations

from pathlib import Path

INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp")
"""The processor's instructions that decide how fast integers and floats are."""

DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})
"""Those that multiply and add bytes in 32 bits: no sum of theirs is cut."""


def instructions(flags: str | None = None) -> list[str]:
    """The instructions among INSTRUCTIONS that the processor has.

    >>> instructions("flags : fpu avx2 avx512_vnni")
    ['avx2', 'avx512_vnni']
    """
    if flags is None:
        try:
            flags = Path("/proc/cpuinfo").read_text("utf-8")
        except OSError:
            flags = ""
    words = set(flags.split())
    return [name for name in INSTRUCTIONS if name in words]


def exact_sums(have: list[str]) -> bool:
    """Whether a processor with these instructions adds products of bytes without cutting the sums.

    >>> exact_sums(["avx2"]), exact_sums(["avx2", "avx_vnni"])
    (False, True)
    """
    return bool(DOT_PRODUCTS & set(have))
