"""A spec from what a person says: a source, a goal, a few words; the rest is filled in when the data are known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from modelmill.spec import Spec, read


def request(
    source: str,
    *,
    name: str = "",
    task: str = "",
    data: Mapping[str, Any] | None = None,
    goal: Mapping[str, Any] | None = None,
    workers: int = 0,
    seed: int = 0,
) -> Spec:
    """The spec for a source: a built-in set, a file, a folder, or a spec file, in which flags that are given win.

    Raises SourceError for a file that is not there, UnknownName for a set that does not exist.
    """
    from modelmill.data.source import default_name, guess

    said = {key: value for key, value in (data or {}).items() if value}
    wanted = {key: value for key, value in (goal or {}).items() if value}
    if source.endswith(".toml"):
        spec = read(Path(source))
        base = msgspec.to_builtins(spec.goal)
        changed = {"data": {**spec.data, **said}, "goal": read({"data": {}, "goal": {**base, **wanted}}).goal}
        if task:
            changed["task"] = {"method": task}
        return msgspec.structs.replace(
            spec, name=name or spec.name or default_name(source), seed=seed or spec.seed, **changed
        )
    return read(
        {
            "name": name or default_name(source),
            "data": {**guess(source), **said},
            "goal": wanted,
            "seed": seed,
            "workers": workers or os.cpu_count() or 1,
            "task": {"method": task} if task else {},
        }
    )
