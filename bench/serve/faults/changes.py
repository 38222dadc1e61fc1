"""Changes while the service answers: models come and go, versions, routes, keys."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing

from kept import post

from faults.requests import infer
from faults.target import Fault, Target, rows, said
from modelmill.registry.registry import Registry
from modelmill.serve.access.keys import Keys
from modelmill.store.home import Home

SECOND_LOOK_S = 1.6
"""After so long a running service has followed what changed in its home."""


def loading(target: Target, _: int) -> Iterator[str]:
    """A model is unloaded, asked for, loaded and asked for again."""
    ask = infer(target, {"shape": [1, 256], "data": [0.5] * 256}, model="guest", key="operator")
    for verb in ("unload", "load"):
        yield said(target, rows(target, b"{}", path=f"/v2/repository/models/guest/{verb}", key="operator"))
        yield f"{verb}ed {said(target, ask)}"


def promotion(target: Target, n: int) -> Iterator[str]:
    """The other version answers; every third time one that cannot be loaded is tried in between."""
    home = Home(target.home)
    with closing(home.database):
        registry = Registry(home.database, home.blobs)
        if n % 3 == 2:
            registry.promote("flowers", 3)
            time.sleep(SECOND_LOOK_S)
        registry.promote("flowers", 1 + n % 2)
    yield "promoted"


def canary(target: Target, n: int) -> Iterator[str]:
    """Half of the requests go to a version for a while."""
    route = {"method": "canary", "candidate": str(1 + n % 2), "percent": 50}
    path, kind = "/api/models/flowers/route", "Content-Type: application/json"
    yield said(target, post(path, json.dumps(route).encode(), target.bearer("router"), kind, method="PUT"))
    time.sleep(SECOND_LOOK_S)
    yield said(target, post(path, b"", target.bearer("router"), kind, method="DELETE"))


def passing_key(target: Target, n: int) -> Iterator[str]:
    """A key that is made, used, revoked, used and forgotten."""
    home = Home(target.home)
    with closing(home.database):
        keys = Keys(home.database)
        secret, key = keys.create(f"passing-{n}")
        time.sleep(SECOND_LOOK_S)
        yield f"made {said(target, rows(target, b'[[3, 1]]', key=secret))}"
        keys.revoke(key.id)
        time.sleep(SECOND_LOOK_S)
        yield f"revoked {said(target, rows(target, b'[[3, 1]]', key=secret))}"
        keys.delete(key.id)


def hangup(target: Target, _: int) -> Iterator[str]:
    os.kill(target.at.process.pid, signal.SIGHUP)
    yield "sent"


FAULTS: dict[str, Fault] = {
    "change: unload and load": loading,
    "change: another version": promotion,
    "change: a canary": canary,
    "change: a key that comes and goes": passing_key,
}
ONLY_WORKERS: dict[str, Fault] = {"change: SIGHUP": hangup}
"""Where SIGHUP is listened to: it ends one process without certificates."""
