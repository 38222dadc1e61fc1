"""Sends our service what no client should: requests from its OpenAPI document, and mutated requests of the protocol.

    python bench/conform/fuzz.py [--requests 100000] [--seed 0] [--quick] [--only mutated|schemathesis]

Half of the mutated requests go over HTTP, half over gRPC, from four clients each: a request that is right, with one to
four changes of its values, of its structure or of its bytes, all drawn by hypothesis, which shrinks what it finds. None
may be answered with 5xx (over gRPC with a code that blames the server), none may go unanswered for ten seconds, and at
the end the service must answer as it did, with no more open files and memory than after the first tenth (up to 10 MB),
and no more threads but for those of the engine, which start when they are needed. schemathesis runs in an environment
of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import http.client
import json
import random
import re
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import psutil
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.strategies import randoms
from setting import Running, interpreter, record, serving

from modelmill.protocol.schema import schema

Send = Callable[[random.Random], tuple[str, bytes]]

CLIENTS = 4
INFER = "/inference.GRPCInferenceService/ModelInfer"
OURS = {"INTERNAL", "UNKNOWN", "UNAVAILABLE", "DATA_LOSS", "DEADLINE_EXCEEDED"}
"""Codes of gRPC that blame the server, or say that nothing came."""

DATATYPES = (
    "BOOL",
    "UINT8",
    "UINT64",
    "INT8",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
    "BF16",
    "FP33",
    "",
    "fp32",
)
MODELS = {
    "simple": ("INT32", 16, ("INPUT0", "INPUT1")),
    "simple_int8": ("INT8", 16, ("INPUT0", "INPUT1")),
    "simple_string": ("BYTES", 16, ("INPUT0", "INPUT1")),
    "simple_identity": ("BYTES", 3, ("INPUT0",)),
    "simple_sequence": ("INT32", 1, ("INPUT", "START", "READY")),
}
"""Datatype, elements and inputs of the models."""

JUNK: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**40, 0.5, 1e308, "", "a", "\0", "ü\U0001f600", "NaN",
    "9" * 400, "a" * 5000, [], {}, [[]], [None], {"": {}}, [1, [2, [3]]], {"data": []}, ["a", 1, None, {}], [0] * 300,
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="5,000 requests; nothing is kept")
    parser.add_argument("--only", choices=["mutated", "schemathesis"], default="")
    chosen = parser.parse_args()
    count = 5_000 if chosen.quick else chosen.requests
    rows = []
    if chosen.only in ("", "mutated"):
        with serving() as service:
            rows.append(mutated(service, count, chosen.seed))
        print(json.dumps(rows[-1], indent=1), flush=True)
        if not chosen.quick:
            record("mutated", rows[-1:])
    if chosen.only in ("", "schemathesis"):
        with serving() as service:
            rows.append(from_openapi(service, 10 if chosen.quick else 50, chosen.seed))
        print(json.dumps(rows[-1], indent=1), flush=True)
        if not chosen.quick:
            record("schemathesis", rows[-1:])
    return 0 if all(row["good"] for row in rows) else 1


def mutated(service: Running, count: int, seed: int) -> dict[str, Any]:
    """What became of so many mutated requests."""
    process = psutil.Process(service.pid)
    codes: Counter[str] = Counter()
    bad: list[str] = []
    samples = []
    before = answer(service)
    share = count // (2 * CLIENTS)
    tenth = threading.Barrier(2 * CLIENTS + 1)

    def client(number: int) -> None:
        asked = 0

        @seeded(seed * 2 * CLIENTS + number)
        @settings(
            max_examples=share,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        @given(randoms(use_true_random=False))
        def one(dice: random.Random) -> None:
            nonlocal asked
            asked += 1
            if asked == share // 10:
                tenth.wait()
            code, sent = send(dice)
            codes[code] += 1
            assert not is_bad(code), f"{code}: {sent[:300]!r}"

        with over_http(service) if number % 2 else over_grpc(service) as send:
            try:
                one()
            except AssertionError as error:
                bad.append(str(error))
                tenth.abort()

    began = time.perf_counter()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(2 * CLIENTS)]
    for thread in threads:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        tenth.wait()
    samples.append(sample(process, share * 2 * CLIENTS // 10))
    while any(thread.is_alive() for thread in threads):
        threads[0].join(5)
        time.sleep(0.1)
        samples.append(sample(process, sum(codes.values())))
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    time.sleep(2)
    samples.append(sample(process, sum(codes.values())))
    same = answer(service) == before
    first, last = samples[0], samples[-1]
    grown = {key: last[key] - first[key] for key in ("rss_mb", "threads", "files", "sockets")}
    steady = (
        grown["threads"] <= (psutil.cpu_count() or 1)
        and grown["files"] <= 0
        and grown["sockets"] <= 0
        and grown["rss_mb"] < 10
    )
    return {
        "requests": sum(codes.values()),
        "seed": seed,
        "seconds": round(seconds, 1),
        "codes": dict(sorted(codes.items())),
        "bad": bad[:20],
        "answers_as_before": same,
        "after_a_tenth": first,
        "at_the_end": last,
        "peak_rss_mb": max(each["rss_mb"] for each in samples),
        "grown": grown,
        "good": not bad and same and steady,
    }


def is_bad(code: str) -> bool:
    """Whether an answer blames the service, or none came."""
    return code.startswith("http 5") or code.partition(" ")[2] in OURS or "no answer" in code


def sample(process: psutil.Process, done: int) -> dict[str, Any]:
    """What the service holds now."""
    return {
        "done": done,
        "rss_mb": round(process.memory_info().rss / 1e6, 1),
        "threads": process.num_threads(),
        "files": process.num_fds(),
        "sockets": len(process.net_connections()),
    }


def answer(service: Running) -> bytes:
    """What a request that is right is answered."""
    host, _, port = service.http.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    body = json.dumps(document("simple", random.Random(0)))
    connection.request("POST", "/v2/models/simple/infer", body, {"content-type": "application/json"})
    found = connection.getresponse().read()
    connection.close()
    return found


def document(model: str, dice: random.Random) -> dict[str, Any]:
    """A request that is right, as JSON."""
    datatype, width, names = MODELS[model]
    rows = dice.choice((1, 1, 2, 5))
    data: list[Any] = [dice.randrange(100) for _ in range(rows * width)]
    data = [str(value) for value in data] if datatype == "BYTES" else data
    return {
        "id": "seven",
        "inputs": [{"name": name, "shape": [rows, width], "datatype": datatype, "data": data} for name in names],
        "parameters": {"priority": 1},
    }


@contextlib.contextmanager
def over_http(service: Running) -> Iterator[Send]:
    """Sends a request over HTTP: the code of the answer, and what was sent."""
    host, _, port = service.http.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)

    def send(dice: random.Random) -> tuple[str, bytes]:
        path, body, headers = wrong(dice)
        try:
            connection.request("POST", path, body, headers)
            reply = connection.getresponse()
            reply.read()
            code = f"http {reply.status}"
            if reply.headers.get("connection") == "close":
                connection.close()
        except (http.client.HTTPException, OSError) as error:
            connection.close()
            # A server may close a connection on which nothing can be understood; it may not let us wait.
            code = "http no answer" if isinstance(error, TimeoutError) else "http closed"
        return code, path.encode() + b" " + body

    try:
        yield send
    finally:
        connection.close()


def wrong(dice: random.Random) -> tuple[str, bytes, dict[str, str]]:
    """A mutated request: path, body, headers."""
    model = dice.choice(list(MODELS))
    found = document(model, dice)
    headers = {"content-type": "application/json"}
    if dice.random() < 0.3:
        body, length = in_bytes(found, dice)
        headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(length)}
        if dice.random() < 0.3:
            headers["inference-header-content-length"] = dice.choice(
                ("0", "-1", "x", "", str(2**70), str(len(body) + 1), "1")
            )
    else:
        for _ in range(dice.randrange(1, 5)):
            change(found, dice)
        body = json.dumps(found).encode()
    if dice.random() < 0.3:
        body = damaged(body, dice)
    path = (
        f"/v2/models/{model}/infer"
        if dice.random() < 0.9
        else f"/v2/models/{model}/versions/{dice.choice('019x')}/infer"
    )
    return path, body, headers


def in_bytes(found: dict[str, Any], dice: random.Random) -> tuple[bytes, int]:
    """A request with its tensors as bytes: the body, and the length of its JSON."""
    tail = b""
    for tensor in found["inputs"]:
        data = raw(tensor)
        del tensor["data"]
        tensor["parameters"] = {
            "binary_data_size": len(data) + (dice.choice((-1, 1, 4, 10**9)) if dice.random() < 0.2 else 0)
        }
        tail += data
    if dice.random() < 0.6:
        change(found, dice)
    text = json.dumps(found).encode()
    return text + tail, len(text)


def raw(tensor: dict[str, Any]) -> bytes:
    """The bytes of a tensor."""
    if tensor["datatype"] == "BYTES":
        return b"".join(struct.pack("<I", len(text)) + text.encode() for text in tensor["data"])
    kind = {"INT32": "i", "INT8": "b"}[tensor["datatype"]]
    return struct.pack(f"<{len(tensor['data'])}{kind}", *tensor["data"])


def change(value: Any, dice: random.Random) -> None:
    """Change one thing somewhere in a JSON value."""
    while isinstance(value, dict | list) and value:
        key = dice.choice(list(value)) if isinstance(value, dict) else dice.randrange(len(value))
        if isinstance(value[key], dict | list) and value[key] and dice.random() < 0.7:
            value = value[key]
            continue
        kind = dice.randrange(5)
        if kind == 0:
            del value[key]
        elif kind == 1 and isinstance(value, list):
            value.insert(key, copy.deepcopy(value[key]))
        elif kind == 2 and key == "datatype":
            value[key] = dice.choice(DATATYPES)
        elif kind == 3 and isinstance(value[key], int):
            value[key] = value[key] * dice.choice((-1, 2, 2**40)) + dice.choice((-1, 0, 1))
        else:
            value[key] = copy.deepcopy(dice.choice(JUNK))
        return


def damaged(body: bytes, dice: random.Random) -> bytes:
    """Bytes with some of them changed, lost, or come twice."""
    found = bytearray(body)
    for _ in range(dice.randrange(1, 5)):
        if not found:
            break
        at = dice.randrange(len(found))
        kind = dice.randrange(4)
        if kind == 0:
            found[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            del found[at:]
        elif kind == 2:
            found[at:at] = dice.randbytes(dice.randrange(1, 9))
        else:
            found[at:at] = found[at : at + dice.randrange(1, 40)]
    return bytes(found)


@contextlib.contextmanager
def over_grpc(service: Running) -> Iterator[Send]:
    """Sends a call over gRPC: the code of the answer, and what was sent."""
    import grpc

    with grpc.insecure_channel(service.grpc) as channel:
        call = channel.unary_unary(INFER)

        def send(dice: random.Random) -> tuple[str, bytes]:
            message = wrong_call(dice)
            try:
                call(message, timeout=10)
                code = "grpc OK"
            except grpc.RpcError as error:
                code = f"grpc {error.code().name}"
            return code, message

        yield send


def wrong_call(dice: random.Random) -> bytes:
    """A mutated message."""
    model = dice.choice(list(MODELS))
    found = document(model, dice)
    message: dict[str, Any] = {"model_name": model, "id": found["id"], "inputs": found["inputs"]}
    pieces = []
    typed = dice.random() < 0.4
    for tensor in message["inputs"]:
        data = tensor.pop("data")
        if typed:
            field = "bytes_contents" if tensor["datatype"] == "BYTES" else "int_contents"
            field = dice.choice(("fp32_contents", "int64_contents", field)) if dice.random() < 0.1 else field
            texts = [text.encode() for text in data] if tensor["datatype"] == "BYTES" else data
            tensor["contents"] = {
                field: texts if (field == "bytes_contents") == (tensor["datatype"] == "BYTES") else [1]
            }
        else:
            pieces.append(raw({**tensor, "data": data}))
        if dice.random() < 0.2:
            tensor["shape"] = dice.choice(([], [0], [-1, 16], [2**31, 2**31], [1] * 20, [2**62], [1, 16, 1]))
        if dice.random() < 0.1:
            tensor["datatype"] = dice.choice(DATATYPES)
        if dice.random() < 0.1:
            tensor["name"] = dice.choice(("", "INPUT1", "ü" * 50))
    if pieces:
        message["raw_input_contents"] = pieces
        if dice.random() < 0.3:
            place = dice.randrange(len(pieces))
            pieces[place] = damaged(pieces[place], dice)
        if dice.random() < 0.1:
            pieces.append(b"")
    if dice.random() < 0.2:
        message["parameters"] = {
            dice.choice(("timeout", "priority", "a", "sequence_id")): {"int64_param": dice.choice((-1, 0, 2**62))}
        }
    if dice.random() < 0.1:
        message["model_version"] = dice.choice(("0", "1", "x", "9" * 30))
    text = schema().encode("inference.ModelInferRequest", message)
    return damaged(text, dice) if dice.random() < 0.5 else text


def from_openapi(service: Running, examples: int, seed: int) -> dict[str, Any]:
    """What schemathesis found: it makes requests by the document, right ones and wrong ones, and looks for 5xx."""
    program = str(interpreter("schemathesis").parent / "schemathesis")
    command = [program, "run", f"http://{service.http}/openapi.json", "--checks", "not_a_server_error", "--no-color"]
    command += ["--max-examples", str(examples), "--seed", str(seed), "--request-timeout", "10", "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False, cwd=service.home)
    said = done.stdout.strip().splitlines()
    told = [
        line.strip() for line in said if re.search(r"\d+ (generated|selected|tested|passed|failed|found|cases)", line)
    ]
    counted = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    # Its generator may fail by itself ("Runtime Error"), which says nothing of the service: cases that failed do.
    good = counted is not None and counted[1] == counted[2]
    return {
        "examples": examples,
        "seed": seed,
        "code": done.returncode,
        "said": told[-12:] or said[-12:],
        "problems": [] if done.returncode == 0 else [line for line in said if line.strip()][:200],
        "good": good,
    }


if __name__ == "__main__":
    sys.exit(main())
