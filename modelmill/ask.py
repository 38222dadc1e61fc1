"""A spec from what a person says: a source, a goal, a few words; the rest is filled in when the data are known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from modelmill.errors import SpecError
from modelmill.spec import Spec, read, tables_of


def request(
    source: str,
    *,
    name: str = "",
    task: str = "",
    data: Mapping[str, Any] | None = None,
    goal: Mapping[str, Any] | None = None,
    workers: int | None = None,
    seed: int | None = None,
) -> Spec:
    """The spec for a source: a built-in set, a file, a folder, or a spec file, in which flags that are given win.

    workers: trials at once; 0 is one a core, as is None where there is no spec file.
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
        if seed is not None:
            changed["seed"] = seed
        if workers is not None:
            changed["workers"] = workers or cores()
        return msgspec.structs.replace(spec, name=name or spec.name or default_name(source), **changed)
    return read(
        {
            "name": name or default_name(source),
            "data": {**guess(source), **said},
            "goal": wanted,
            "seed": seed or 0,
            "workers": workers or cores(),
            "task": {"method": task} if task else {},
        }
    )


def cores() -> int:
    """How many trials run at once where nothing is said."""
    return os.cpu_count() or 1


def compression(
    name: str,
    data: str = "",
    *,
    recipe: str | Path = "",
    called: str = "",
    goal: Mapping[str, Any] | None = None,
    workers: int = 0,
    seed: int = 0,
) -> Spec:
    """The spec for compressing a version with its own rows, or with those of a source.

    recipe: a TOML file with steps as `[[compress]]`, and with `[search]` where that is to be said.
    Raises SourceError for a file that is not there, SpecError for a recipe that says anything else.
    """
    from modelmill.data.source import guess

    given: dict[str, Any] = {}
    if recipe:
        steps = read({"data": {}, **_tables(Path(recipe))})
        given = {"compress": msgspec.to_builtins(steps.compress), "search": steps.search}
    wanted = {key: value for key, value in (goal or {}).items() if value or (key == "allow_loss" and value is not None)}
    return read(
        {
            "base": name,
            "name": called,
            "data": guess(data) if data else {},
            "goal": wanted,
            "seed": seed,
            "workers": workers or cores(),
            **given,
        }
    )


def _tables(path: Path) -> dict[str, Any]:
    """The tables of a recipe. Raises SpecError for one that is none of a recipe's."""
    tables = tables_of(path)
    for key in tables:
        if key not in ("compress", "search"):
            said = f"[{key}] is no table of a recipe"
            raise SpecError(str(path), said, "A recipe holds [[compress]] and [search]; say the rest by flags.")
    if not tables.get("compress"):
        raise SpecError(str(path), "it holds no steps", "Write a table [[compress]] for each.")
    return tables
