"""Several processes on one port: the same keys, and one quota between them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from modelmill.serve.access.quota import Quota


@pytest.mark.skipif(sys.platform != "linux", reason="processes share a port on Linux alone")
def test_workers_share_keys_and_a_quota(shelf, keys, place, ask):
    quota = Quota(requests_per_s=0.001, burst=7)
    secret, _ = keys.create("web", quota=quota)
    process = subprocess.Popen(
        [sys.executable, "-m", "modelmill.cli", "serve", "flowers", "--port", "0", "--no-grpc", "--workers", "2"],
        env={**os.environ, "MODELMILL_HOME": str(place.path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = next(line for line in process.stderr if "modelmill serves" in line)
        service = type("At", (), {"url": line.split()[2]})
        codes = [ask(service, "POST", "/predict/flowers", [[3, 1]], secret).code for _ in range(20)]
        assert codes == [200] * 7 + [429] * 13
        assert ask(service, "GET", "/v2").code == 401
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
