"""The main job, end to end: build a model for digits, serve it, ask it, and show how to ask it oneself."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

COMMAND = [str(Path(sys.executable).with_name("modelmill"))]
BUILD = [
    "build",
    "digits",
    "--maximize",
    "accuracy",
    "--limit",
    "latency_ms=1",
    "--limit",
    "size_kb=50",
    "--budget",
    "60s",
]
SEVEN = [
    [0, 0, 7, 8, 13, 16, 15, 1],
    [0, 0, 7, 7, 4, 11, 12, 0],
    [0, 0, 0, 0, 8, 13, 1, 0],
    [0, 4, 8, 8, 15, 15, 6, 0],
    [0, 2, 11, 15, 15, 4, 0, 0],
    [0, 0, 0, 16, 5, 0, 0, 0],
    [0, 0, 9, 15, 1, 0, 0, 0],
    [0, 0, 13, 5, 0, 0, 0, 0],
]


def main() -> int:
    """Build, serve, ask; serve on where a person watches."""
    print(f"$ modelmill {' '.join(BUILD)}", flush=True)
    code = subprocess.call([*COMMAND, *BUILD])
    if code:
        return code
    port = free_port(8080)
    print(f"\n$ modelmill serve digits --port {port}", flush=True)
    service = subprocess.Popen([*COMMAND, "serve", "digits", "--port", str(port)])
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/v2/health/ready", service)
        ask(url)
        if sys.stdin.isatty() and sys.stdout.isatty():
            print("\nServing until Ctrl-C.", flush=True)
            service.wait()
    except KeyboardInterrupt:
        print()
    finally:
        stop(service)
    return 0


def free_port(wanted: int) -> int:
    """The wanted port, or any free one where it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SystemExit("no free port on 127.0.0.1")


def wait_for(url: str, service: subprocess.Popen[bytes], seconds: float = 30) -> None:
    """Return when the service says that it is ready."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and service.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the service did not start")


def ask(url: str) -> None:
    """One digit, asked in both protocols, and how to ask by hand."""
    answer = post(f"{url}/predict/digits", [[SEVEN]])
    print(f"\nplain JSON       POST {url}/predict/digits\n                 {json.dumps(answer)[:150]} ...")
    tensor = {"name": "image", "shape": [1, 8, 8], "datatype": "FP32", "data": [SEVEN]}
    answer = post(f"{url}/v2/models/digits/infer", {"inputs": [tensor], "outputs": [{"name": "label"}]})
    print(f"Open Inference   POST {url}/v2/models/digits/infer\n                 {json.dumps(answer)}")
    print(f"\nTry it in a browser: {url}/models/digits")
    body = json.dumps([[SEVEN]], separators=(",", ":"))
    print(f"or with curl:\n  curl -s {url}/predict/digits -H 'content-type: application/json' -d '{body}'", flush=True)


def post(url: str, body: object) -> object:
    """The JSON answer to a JSON request."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def stop(service: subprocess.Popen[bytes]) -> None:
    """Let the service end what is in flight, and then end."""
    if service.poll() is None:
        os.kill(service.pid, signal.SIGTERM)
    try:
        service.wait(10)
    except subprocess.TimeoutExpired:
        service.kill()


if __name__ == "__main__":
    sys.exit(main())
