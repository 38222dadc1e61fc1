"""A file in fewer bytes, and back.

After four letters and the version of the format come the length of the file, the head and the payload. The head, packed
by zlib, holds all that is no run of numbers, and says for each run in which form it is. Numbers are in the payload.
"""

from __future__ import annotations

import zlib
from itertools import pairwise

import numpy as np

from modelmill.store.packing import pieces
from modelmill.store.packing.dictionary import WORDS
from modelmill.store.packing.flow import Array, Source, Tail, damaged, number
from modelmill.store.packing.tensors import Numbers, numbers

MAGIC = b"MILL"
VERSION = 1
LARGEST = (1 << 31) - 1
"""ONNX files are no larger than this, and so is what we unpack."""
SLACK = 1 << 16
"""How much longer than twice the file a head may be."""
WIDEST = 1 << 62
"""The longest row of a tensor that may be stated."""
SMALLEST = 4096
"""A shorter file is one block of a disk in either form."""
SHARE = 0.75
"""A packed file above this share of the bytes is not worth the time that opening it takes."""


def stored(data: bytes) -> bytes:
    """The form in which a file is stored: packed where that is worth it, else the very bytes."""
    if len(data) < SMALLEST:
        return data
    packed = pack(data)
    return packed if len(packed) <= SHARE * len(data) else data


def pack(data: bytes) -> bytes:
    """Fewer bytes, from which `unpack` makes these again; the same ones every time.

    Few values, zeros and bytes that are not evenly spread cost what they tell; floats that are trained to all their
    bits stay as they are.
    """
    runs, tail = numbers(data), Tail()
    said = [_put(data, run, tail) for run in reversed(runs)][::-1]
    head, between, at = bytearray(number(len(runs))), bytearray(), 0
    for run, forms in zip(runs, said, strict=True):
        head += b"".join(map(number, (run.start - at, run.end - run.start, run.bits, run.width))) + forms
        between += data[at : run.start]
        at = run.end
    head += between + data[at:]
    deflating = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=WORDS)
    deflated = deflating.compress(head) + deflating.flush()
    sizes = b"".join(map(number, (len(data), len(head), len(deflated))))
    return b"".join([MAGIC, bytes([VERSION]), sizes, deflated, *tail.parts()])


def unpack(packed: bytes, most: int | None = None) -> bytes:
    """The bytes that were packed. Raises StorageError for others, and for more than `most`, before they are made."""
    payload = Source(packed)
    if payload.take(len(MAGIC)) != MAGIC:
        raise damaged("it does not begin as a packed file does")
    if (version := payload.take(1)[0]) != VERSION:
        raise damaged(f"its format is version {version}, and this modelmill knows version {VERSION}")
    total = payload.number(LARGEST if most is None else most)
    length = payload.number(2 * total + SLACK)
    head = Source(_inflated(payload.take(payload.number(length + SLACK)), length))
    made, gaps, at = bytearray(total), [], 0
    for _ in range(head.number(total)):
        start = at + head.number(total - at)
        end = start + head.number(total - start)
        _get(memoryview(made)[start:end], head, payload)
        gaps.append((at, start))
        at = end
    for start, end in (*gaps, (at, total)):
        made[start:end] = head.take(end - start)
    head.end()
    payload.end()
    return bytes(made)


def _put(data: bytes, run: Numbers, tail: Tail) -> bytes:
    """Write a run of numbers, piece by piece; what the head says of their forms."""
    run = run._replace(bits=run.bits if (run.end - run.start) * 8 % run.bits == 0 else 8)
    view = memoryview(data)[run.start : run.end]
    said = [pieces.put(_opened(view[a:b], run.bits), run.width, tail) for a, b in reversed(_cuts(len(view), run.bits))]
    return b"".join(reversed(said))


def _get(place: memoryview, head: Source, payload: Source) -> None:
    """Read a run of numbers into its place."""
    bits, width = head.number(64), head.number(WIDEST)
    if bits not in (4, 8, 16, 32, 64) or len(place) * 8 % bits:
        raise damaged(f"a run of {len(place)} bytes cannot hold numbers of {bits} bits")
    for start, end in _cuts(len(place), bits):
        count = (end - start) * 8 // bits
        words = pieces.get(f"<u{max(bits // 8, 1)}", count, width, head, payload)
        place[start:end] = _closed(words, bits)


def _cuts(length: int, bits: int) -> list[tuple[int, int]]:
    """Where the pieces of so many bytes begin and end."""
    size = pieces.LARGEST * bits // 8
    return list(pairwise([*range(0, length, size), length]))


def _opened(data: memoryview, bits: int) -> Array:
    """Bytes as unsigned numbers; of two 4-bit numbers in a byte the lower comes first."""
    if bits != 4:
        return np.frombuffer(data, f"<u{bits // 8}")
    both = np.frombuffer(data, np.uint8)
    return np.stack([both & 15, both >> 4], 1).ravel()


def _closed(words: Array, bits: int) -> memoryview:
    """Numbers as bytes."""
    if bits == 4:
        words = words[0::2] | words[1::2] << 4
    return np.ascontiguousarray(words).view(np.uint8).data


def _inflated(data: bytes | memoryview, length: int) -> bytes:
    """What zlib made of the head, which has that length."""
    inflating = zlib.decompressobj(-15, zdict=WORDS)
    try:
        head = inflating.decompress(data, length + 1)
    except zlib.error as error:
        raise damaged(f"its head cannot be read: {error}") from None
    if len(head) != length or not inflating.eof or inflating.unused_data:
        raise damaged("its head has another length than it states")
    return head
