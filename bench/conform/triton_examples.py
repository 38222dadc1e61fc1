"""Runs the examples of Triton's Python client against our service: each ends with 0 where it got what it wanted.

    python bench/conform/triton_examples.py --examples DIR [--only simple_http_infer_client.py]

DIR is src/python/examples of https://github.com/triton-inference-server/client; nothing of it is kept here. The client
is installed in an environment of its own. Scripts that look for Triton's own name or words are run as a copy in which
ours stand (`WORDS`); those that need what is not offered are run as well, and may fail (`ABSENT`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from setting import environment, record, serving

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
    python = environment("tritonclient")
    rows = []
    with serving() as service, tempfile.TemporaryDirectory() as folder:
        for script in scripts:
            row = run(python, script, service.grpc if "grpc" in script.name else service.http, Path(folder))
            mark = "ok" if row["as_expected"] else "!!"
            print(f"{mark} {row['script']}: {row['code']} {row['absent']} {row['said'][-120:]}", flush=True)
            rows.append(row)
    if not chosen.only:
        record("triton_examples", rows)
    good = sum(row["code"] == 0 for row in rows)
    print(f"{good} of {len(rows)} ended with 0; {sum(bool(row['absent']) for row in rows)} need what is not offered")
    return 0 if all(row["as_expected"] for row in rows) else 1


def run(python: Path, script: Path, url: str, folder: Path) -> dict:
    """What became of one script."""
    text = script.read_text()
    reworded = [word for word in WORDS if word in text]
    for word in reworded:
        text = text.replace(word, WORDS[word])
    copy = folder / script.name
    copy.write_text(text)
    command = [str(python), str(copy), "-u", url]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        code, said = done.returncode, (done.stdout + done.stderr).strip().rpartition("\n")[2]
    except subprocess.TimeoutExpired:
        code, said = -1, "no end after 120 s"
    absent = next((what for part, what in ABSENT.items() if part in script.name), "")
    as_expected = code == 0 or bool(absent)
    return {
        "script": script.name,
        "code": code,
        "said": said[:200],
        "absent": absent,
        "as_expected": as_expected,
        "reworded": reworded,
    }


if __name__ == "__main__":
    sys.exit(main())
