"""Answers a small file and then a large one, and prints by how many bytes the peak of memory grew.

GRAPH SIGNATURE SMALL LARGE OUTPUT
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import msgspec

from modelmill.bulk.answer import Pace, answer_file
from modelmill.signature import Signature


def main() -> None:
    graph, signature, small, large, output = map(Path, sys.argv[1:])
    made = msgspec.json.decode(signature.read_bytes(), type=Signature)
    peaks = []
    for source in (small, large):
        for step in answer_file(graph.read_bytes(), made, source, output, fresh=True, pace=Pace(2, 8192, 1 << 19)):
            last = step
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    print(last.rows, peaks[1] - peaks[0])


if __name__ == "__main__":
    main()
