"""Refuses a spec before any work: names, bounds, steps that fit nowhere, and goals that no model can meet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from modelmill.contracts import Arch, Compressor, Heir
from modelmill.errors import OutOfBounds, SpecError, UnknownName
from modelmill.method import check_names, check_value, find, names
from modelmill.model import Kind as BodyKind
from modelmill.spec import (
    COSTS,
    FLAGS,
    FLOORS,
    NESTED,
    Budget,
    Goal,
    Spec,
    Table,
    after,
    class_of,
    fits,
    is_choice,
    is_range,
    options_of,
)


def check(spec: Spec, live: BodyKind | None = None) -> None:
    """Refuse what can be refused before any work: names, bounds at both ends of every range, steps that fit nowhere.

    live: the kind of a body that is given in place of an arch.

    Raises UnknownName, OutOfBounds or SpecError.
    """
    Budget.parse(spec.goal.budget)
    _check_choices(spec)
    known = [*names("metrics"), *COSTS]
    for name, _ in spec.goal.objectives:
        _known(f"goal.{name}", "metric or cost", name, known)
    for name in spec.goal.reach:
        _known("goal.reach", "metric", name, names("metrics"))
    for name, value in spec.goal.limit.items():
        _known("goal.limit", "limit", name, known)
        if not value > 0 and name in COSTS:
            raise OutOfBounds(f"goal.limit.{name} = {value}", "expected a number above 0", "Leave it out for no limit.")
    _check_aims(spec.goal)
    if not 0 <= (spec.goal.allow_loss or 0) < 1:
        said = f"goal.allow_loss = {spec.goal.allow_loss}"
        raise OutOfBounds(said, "expected a share from 0 on, below 1", "Write 0.01 for one point in a hundred.")
    for stage in ("data", "train"):
        for option in options_of(getattr(spec, stage)):
            _check_table(stage, option, stage)
    for key in ("sampler", "stopper", "generator"):
        if not isinstance(given := spec.search.get(key) or {}, Mapping):
            meant = given if given in names(key) else names(key)[0]
            hint = f'Write {key} = {{ method = "{meant}" }}.'
            raise SpecError(f"search.{key}", f"expected a table, got {given!r}", hint)
        for option in options_of(dict(given)):
            _check_table(key, option, f"search.{key}")
    for option in options_of(spec.arch):
        _check_table("arch", option, "arch")
    for stage in ("prepare", "compress"):
        for step in getattr(spec, stage) or ():
            for option in options_of({key: value for key, value in step.items() if key != "optional"}):
                _check_table(stage, option, stage)
    _check_branches(spec, live)


def _known(where: str, what: str, name: str, known: list[str]) -> None:
    if name.rpartition(".")[2] not in known:
        raise UnknownName.among(where, what, name, known)


def _check_table(key: str, table: Table, where: str) -> None:
    if "method" not in table:
        raise SpecError(where, "the table names no method", f"Known: {', '.join(names(key))}.")
    cls = find(key, str(table["method"]), where)
    given = {name: value for name, value in table.items() if name not in ("method", *FLAGS)}
    check_names(cls, given, where)
    for name, value in given.items():
        for end in _ends(value, f"{where}.{name}"):
            if name in NESTED or not (isinstance(end, dict) and "method" in end):
                check_value(cls, name, end, where)
            if name in NESTED:
                for option in (option for inner in end for option in options_of(inner)):
                    _check_table(name, option, f"{where}.{table['method']}.{name}")


def _ends(value: Any, where: str) -> list[Any]:
    if is_range(value):
        said = f"{where} = {_written(value)}"
        if any(isinstance(value[end], bool) or not isinstance(value[end], int | float) for end in ("low", "high")):
            raise OutOfBounds(said, "the ends of a range are numbers", "Write a choice of words as { any = [...] }.")
        if not (math.isfinite(value["low"]) and math.isfinite(value["high"])):
            raise OutOfBounds(said, "a range has finite ends", "Give the largest value that is worth trying.")
        if value["low"] > value["high"]:
            raise OutOfBounds(said, "low is above high", "Swap them.")
        if value.get("log") and value["low"] <= 0:
            raise OutOfBounds(said, "a logarithmic range starts above 0", "Let it start at 1e-4, say.")
        if value.get("step") is not None and not value["step"] > 0:
            raise OutOfBounds(said, "a step is above 0", "Leave it out for every number in between.")
        return [value["low"], value["high"]]
    if is_choice(value):
        if not value["any"]:
            raise SpecError(f"{where}.any", "the list of options is empty", "Give at least one.")
        return [end for option in value["any"] for end in _ends(option, where)]
    if isinstance(value, list | tuple):
        # Every end of every element once, not all of them with each other.
        ends = [_ends(item, where) for item in value]
        return [[found[min(i, len(found) - 1)] for found in ends] for i in range(max(map(len, ends), default=1))]
    return [value]


def _written(table: Table) -> str:
    """A small table as it stands in a spec file.

    >>> _written({"low": 1e-4, "high": 3, "log": True})
    '{ low = 0.0001, high = 3, log = true }'
    """
    words = (f"{key} = {str(value).lower() if isinstance(value, bool) else value}" for key, value in table.items())
    return f"{{ {', '.join(words)} }}"


def _check_choices(spec: Spec) -> None:
    for stage in ("arch", "train"):
        if getattr(spec, stage).get("any") == []:
            raise SpecError(f"{stage}.any", "the list of options is empty", "Give at least one table.")


def _check_branches(spec: Spec, live: BodyKind | None) -> None:
    bodies: set[BodyKind] = {class_of("arch", option, Arch, Heir).body for option in options_of(spec.arch)}
    bodies = bodies or {live or "graph"}
    for step in spec.compress or ():
        options = options_of({key: value for key, value in step.items() if key != "optional"})
        if not any(fits(option, body) for option in options for body in bodies):
            takes = sorted({kind for option in options for kind in class_of("compress", option, Compressor).takes})
            raise SpecError(
                f"compress.{options[0]['method']}",
                f"fits no branch: it takes a {' or '.join(takes)}, and arch gives a {' or '.join(sorted(bodies))}",
                "Leave the step out, or add an arch that it can take.",
            )
        bodies = {after(option, body) for option in options for body in bodies if fits(option, body)} | {
            body for body in bodies if step.get("optional") or not any(fits(option, body) for option in options)
        }


def _check_aims(goal: Goal) -> None:
    """Refuse objectives that pull against each other, and values that cannot be reached or kept."""
    for name in {*goal.maximize} & {*goal.minimize}:
        raise SpecError(f"goal.maximize = {name}", "the goal minimizes it as well", "Keep one of the two.")
    for way, named in (("maximize", goal.maximize), ("minimize", goal.minimize)):
        for name in named:
            if named.count(name) > 1:
                raise SpecError(f"goal.{way} = {name}", "it is named twice", "Name it once.")
    for key, values in (("reach", goal.reach), ("limit", goal.limit)):
        for name, value in values.items():
            where = f"goal.{key}.{name} = {value:g}"
            if not math.isfinite(value):
                raise OutOfBounds(where, "expected a finite number", f"Leave {name} out where anything goes.")
            _check_way(where, name, goal)
            _check_best(where, name, value)


def _check_way(where: str, name: str, goal: Goal) -> None:
    """A limit is a floor or a ceiling, and what the goal asks for must not lie on its other side."""
    metric = _metric(name)
    more = find("metrics", metric).better == "higher" if metric else name in FLOORS
    if name in (goal.minimize if more else goal.maximize):
        side, way = ("at least", "minimizes") if more else ("at most", "maximizes")
        hint = f"Write {'maximize' if more else 'minimize'}, or leave one of the two out."
        raise SpecError(where, f"it is to be {side} that, and the goal {way} it", hint)


def _check_best(where: str, name: str, value: float) -> None:
    metric = _metric(name)
    if not metric:
        return
    kind = find("metrics", metric)
    if (value > kind.best) if kind.better == "higher" else (value < kind.best):
        hint = (
            f"Write {value / 100:g}." if kind.best == 1 and 1 < value <= 100 else f"Write a value within {kind.best:g}."
        )
        raise OutOfBounds(where, f"no model keeps it: the best {metric} there can be is {kind.best:g}", hint)


def _metric(name: str) -> str:
    """The metric of a name, which may carry its target in front; "" for a cost."""
    last = name.rpartition(".")[2]
    return last if last in names("metrics") else ""
