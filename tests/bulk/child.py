"""Answers a file in small blocks, in a process that a test may kill: GRAPH SIGNATURE SOURCE OUTPUT."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from modelmill.bulk import unfinished
from modelmill.bulk.answer import Pace, answer_file
from modelmill.signature import Signature


def main() -> None:
    unfinished.SYNC_S = 0.0  # every block is kept at once, so that a kill finds a journal

    graph, signature, source, output = map(Path, sys.argv[1:])
    made = msgspec.json.decode(signature.read_bytes(), type=Signature)
    for step in answer_file(graph.read_bytes(), made, source, output, pace=Pace(2, 50, 4096)):
        print(step.earlier_rows, step.rows, flush=True)


if __name__ == "__main__":
    main()
