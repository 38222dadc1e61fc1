"""Runs the examples of Triton's Python client against our service: each ends with 0 where it got what it wanted.

    python bench/conform/triton_examples.py --examples DIR [--only simple_http_infer_client.py]

DIR is src/python/examples of https://github.com/triton-inference-server/client; nothing of it is kept here. The client
is installed in an environment of its own. Scripts that look for Triton's own name or words are run as a copy in which
ours stand (`WORDS`); those that need what is not offered are run as well, and may fail (`ABSENT`). A script whose row
is there is not run again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from setting import Row, copied, ended, interpreter, keep, kept, serving

NAME = "triton_examples"

WORDS = {
    '"triton"': '"modelmill"',
    "'triton'": "'modelmill'",
    "Request for unknown model": "model: 'wrong_model_name' is not served",
}
"""What the examples look for in a server's name and errors, and what ours says."""

ABSENT = {
    "cudashm": "CUDA shared memory",
    "shm": "shared memory",
    "sequence": "sequences: models here keep no state between requests",
    "model_control": "a configuration that is sent with a load",
    "reuse_infer": "shared memory",
    "custom_repeat": "a model that answers a request several times",
}
"""Parts of names of scripts that need what is not offered."""


OTHERS = ("reuse_infer_objects_client.py",)
"""Examples by other names that ask `simple`, too."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=Path, required=True)
    parser.add_argument("--only", default="")
    chosen = parser.parse_args()
    found = [*chosen.examples.glob("simple_*.py"), *chosen.examples.glob("grpc_explicit_*.py")]
    found += [path for name in OTHERS if (path := chosen.examples / name).exists()]
    scripts = sorted(path for path in found if chosen.only in path.name)
    if not scripts:
        raise SystemExit(f"no examples in {chosen.examples}")
    done = {row["script"] for row in kept(NAME)}
    left = [script for script in scripts if script.name not in done]
    if left:
        run_all(left)
    names = {script.name for script in scripts}
    rows = [row for row in kept(NAME) if row["script"] in names]
    good = sum(row["code"] == 0 for row in rows)
    print(f"{good} of {len(rows)} ended with 0; {sum(bool(row['absent']) for row in rows)} need what is not offered")
    return 0 if all(row["as_expected"] for row in rows) else 1


def run_all(scripts: list[Path]) -> None:
    """Run scripts, and keep what became of each."""
    python = interpreter("tritonclient")
    with serving() as service, tempfile.TemporaryDirectory() as folder:
        for script in scripts:
            row = run(python, script, service.grpc if "grpc" in script.name else service.http, Path(folder))
            mark = "ok" if row["as_expected"] else "!!"
            print(f"{mark} {row['script']}: {row['code']} {row['absent']} {row['said'][-120:]}", flush=True)
            keep(NAME, [row])


def run(python: Path, script: Path, url: str, folder: Path) -> Row:
    """What became of one script."""
    reworded = copied(script, folder, WORDS)
    code, said = ended([str(python), str(folder / script.name), "-u", url], 120)
    absent = next((what for part, what in ABSENT.items() if part in script.name), "")
    return {
        "script": script.name,
        "code": code,
        "said": said.rpartition("\n")[2][:200],
        "absent": absent,
        "as_expected": code == 0 or bool(absent),
        "reworded": reworded,
    }


if __name__ == "__main__":
    sys.exit(main())
