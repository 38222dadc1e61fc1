"""What to do, as one TOML file or one value: a table a stage, and any setting may be a range.

A range is `{ low, high, log, step }`, a choice is `{ any = [...] }` of values or of whole tables; these ranges are the
search space. `walk` goes through a spec and asks at every range; what comes back is a spec without ranges.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from modelmill.aims import check_aims
from modelmill.contracts import Arch, Compressor, Heir, Trainer
from modelmill.errors import OutOfBounds, SourceError, SpecError, UnknownName
from modelmill.method import check_names, check_value, find, names
from modelmill.model import Kind as BodyKind
from modelmill.space import Choose, Dimension, Walk

Table = dict[str, Any]

COSTS: dict[str, str] = {
    "latency_ms": "median time of one row on one thread, in milliseconds",
    "latency_p99_ms": "99th percentile of the same calls, in milliseconds",
    "throughput_rps": "rows a second, 32 at a time (a floor)",
    "size_kb": "bytes / 1000 of every file served",
    "memory_mb": "growth of the process by loading and running, in megabytes",
    "energy_mj": "millijoules a row; modelled where no counter exists",
    "macs": "multiply-adds of one row",
    "cpu_seconds": "processor seconds of a thousand rows",
}
"""What may be limited or minimized beside metrics."""

FAMILIES = ("arch", "prepare", "train", "compress", "augment")
"""Keys below which a table with a `method` is one of that family; the innermost of a path counts."""

NESTED = ("augment",)
"""Settings of a method that are lists of tables of the family of that name."""

INSIST = "insist"
"""What a step of compression is taken by that breaks the promise: whatever it costs."""

FLAGS = ("optional", INSIST)
"""What the table of a step says to the recipe, not to the method."""

FLOORS = frozenset({"throughput_rps"})
"""Costs of which more is better: a limit on them is a floor."""


class Budget(msgspec.Struct, frozen=True):
    """How long a search may take: seconds, or a number of trials."""

    seconds: float | None = None
    trials: int | None = None

    @classmethod
    def parse(cls, text: str, where: str = "goal.budget") -> Budget:
        """Read `60s`, `15m`, `2h` or `40 trials`.

        >>> Budget.parse("15m").seconds
        900.0
        """
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|trials?)\s*", text)
        if not match or float(match[1]) <= 0:
            raise OutOfBounds(where, f"{text!r} is not a budget", "Write 60s, 15m, 2h or 40 trials.")
        if match[2].startswith("t"):
            if not float(match[1]).is_integer():
                raise OutOfBounds(where, f"{text!r} is not a whole number of trials", "Write 40 trials.")
            return cls(trials=int(float(match[1])))
        return cls(seconds=float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]])


class Goal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is good enough, and how long to look for it."""

    maximize: tuple[str, ...] = ()
    minimize: tuple[str, ...] = ()
    reach: dict[str, float] = {}
    limit: dict[str, float] = {}
    allow_loss: float | None = None
    """How much quality compression may cost: of metrics between 0 and 1 in their unit, of errors as a share."""
    budget: str = "60s"

    @property
    def objectives(self) -> tuple[tuple[str, str], ...]:
        """Pairs of name and direction, in the order in which they are written."""
        return (*((name, "maximize") for name in self.maximize), *((name, "minimize") for name in self.minimize))


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run of the mill: a table a stage, with or without ranges."""

    data: Table
    goal: Goal = Goal()
    name: str = ""
    seed: int = 0
    workers: int = 1
    base: str = ""
    """A version (NAME@NUMBER) that is compressed, in place of an arch that is trained."""
    task: Table = {}
    prepare: tuple[Table, ...] = ()
    arch: Table = {}
    train: Table = {}
    compress: tuple[Table, ...] | None = None
    """None leaves the steps to the mill; an empty list is no compression."""
    search: Table = {}
    serve: Table = {}


def read(source: str | Path | Mapping[str, Any]) -> Spec:
    """A spec from a TOML file or from a mapping of the same form.

    Raises SourceError where the file cannot be read, SpecError with the line where it is not TOML, UnknownName for a
    table or key that does not exist, OutOfBounds for a value of another type.
    """
    tables = source if isinstance(source, Mapping) else tables_of(Path(source))
    for key in tables:
        if key not in Spec.__struct_fields__:
            raise UnknownName.among("spec", "table", str(key), Spec.__struct_fields__)
    goal = dict(tables.get("goal", {}))
    for key in goal:
        if key not in Goal.__struct_fields__:
            raise UnknownName.among("spec.goal", "key", key, Goal.__struct_fields__)
    for key in ("maximize", "minimize"):
        if isinstance(goal.get(key), str):
            goal[key] = [goal[key]]
    try:
        return msgspec.convert({**tables, "goal": goal}, Spec)
    except msgspec.ValidationError as error:
        raise OutOfBounds("spec", str(error), "See the page on specs.") from None


def tables_of(path: Path) -> Table:
    """The tables of a TOML file. Raises SourceError where it cannot be read, SpecError where it is not TOML."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SourceError(str(path), f"cannot be read: {error.strerror}", "Give the path of a TOML file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(str(path), f"is not TOML: {error}", "") from None


def as_table(spec: Spec) -> Table:
    """The spec as plain JSON values, without what is left at its default."""
    table: Table = msgspec.to_builtins(spec)
    goal = {key: value for key, value in table.pop("goal").items() if value or (key == "allow_loss" and value == 0)}
    for key in ("maximize", "minimize"):
        if len(goal.get(key, ())) == 1:
            goal[key] = goal[key][0]
    kept = {
        key: value
        for key, value in table.items()
        if value or key == "seed" or (key == "compress" and value is not None)
    }
    data: Table = kept.pop("data", {})
    return {"data": data, "goal": goal, **kept}


def as_toml(spec: Spec) -> str:
    """The spec as the text of a TOML file, which `read` reads back."""
    import tomli_w

    return tomli_w.dumps(_without_none(as_table(spec)))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value]
    return value


def is_range(value: Any) -> bool:
    """Whether a value of a spec is a range of numbers."""
    return isinstance(value, dict) and {"low", "high"} <= value.keys() <= {"low", "high", "log", "step"}


def is_choice(value: Any) -> bool:
    """Whether a value of a spec is a choice among values or tables."""
    return isinstance(value, dict) and value.keys() == {"any"}


def space(spec: Spec, live: BodyKind | None = None) -> Walk:
    """The search space of a spec as a walk: call it with `choose` to get a spec without ranges."""
    return lambda choose: pick(spec, choose, live)


def pick(spec: Spec, choose: Choose, live: BodyKind | None = None) -> Spec:
    """The spec with every range answered by `choose`; `live` is the kind of a body that is given instead of an arch.

    Steps of `compress` and options of `train` that cannot take the picked body do not exist on that branch.
    """
    arch = _resolve("arch", spec.arch, choose) if spec.arch else {}
    body: BodyKind = find("arch", arch["method"]).body if arch else live or "graph"
    return msgspec.structs.replace(
        spec,
        arch=arch,
        prepare=tuple(_steps("prepare", spec.prepare, choose, None)),
        train=_train(spec.train, body, choose),
        compress=tuple(_steps("compress", spec.compress or (), _late(choose), body)),
        serve=_resolve("serve", spec.serve, choose),
    )


def _late(choose: Choose) -> Choose:
    return lambda dimension: choose(msgspec.structs.replace(dimension, late=True))


def _train(table: Table, body: BodyKind, choose: Choose) -> Table:
    options = [option for option in _options(table) if body in _class("train", option, Trainer).takes]
    if not options:
        return {"method": "estimator" if body == "estimator" else "adam"}
    picked: Table = _resolve("train", options[0] if len(options) == 1 else {"any": options}, choose)
    return picked


def _steps(stage: str, steps: tuple[Table, ...], choose: Choose, body: BodyKind | None) -> Iterator[Table]:
    for number, step in enumerate(steps):
        options = [option for option in _options(step) if body is None or fits(option, body)]
        if not options:
            continue
        table = {key: value for key, value in step.items() if key != "optional"}
        path = stage if _alone(steps, number) else f"{stage}.{number + 1}"
        if step.get("optional"):
            label = options[0].get("method", "step") if len(options) == 1 else "step"
            if not choose(Dimension(f"{path}.{label}", options=(False, True), default=False)):
                continue
        if "any" in table:
            table = options[0] if len(options) == 1 else {"any": options}
        picked = _resolve(path, table, choose)
        yield picked
        if body is not None:
            body = _after(picked, body)


def _alone(steps: tuple[Table, ...], number: int) -> bool:
    """Whether the methods of a step occur in no other step, so that their names are path enough."""
    own = {option.get("method") for option in _options(steps[number])}
    return not any(
        own & {option.get("method") for option in _options(step)} for i, step in enumerate(steps) if i != number
    )


def fits(step: Table, body: BodyKind) -> bool:
    """Whether a step of `compress` can take a body, a network converted to a graph where it must be.

    An estimator's graph has nothing that a step for graphs could change: trees, or a handful of weights.
    """
    takes = _class("compress", step, Compressor).takes
    return body in takes or (body == "network" and "graph" in takes)


def _after(step: Table, body: BodyKind) -> BodyKind:
    cls = _class("compress", step, Compressor)
    return cls.gives or (body if body in cls.takes else "graph")


def _options(table: Table) -> list[Table]:
    if not table:
        return []
    return list(table["any"]) if "any" in table else [table]


def _class(stage: str, table: Table, *contracts: type[Any]) -> type[Any]:
    if "method" not in table:
        raise SpecError(stage, f"the table {table!r} names no method", f"Known: {', '.join(names(stage))}.")
    cls = find(stage, str(table["method"]))
    if not issubclass(cls, contracts):
        raise SpecError(stage, f"{table['method']} is no {contracts[0].__name__.lower()}", "")
    return cls


def _resolve(path: str, value: Any, choose: Choose, default: Any = None, differentiable: bool = False) -> Any:
    if is_range(value):
        whole = all(isinstance(value[key], int) for key in ("low", "high")) and isinstance(value.get("step", 1), int)
        inside = isinstance(default, int | float) and value["low"] <= default <= value["high"]
        return choose(
            Dimension(
                path,
                low=value["low"],
                high=value["high"],
                log=bool(value.get("log")),
                step=value.get("step"),
                integer=whole,
                default=default if inside else None,
                differentiable=differentiable,
            )
        )
    if is_choice(value):
        options = _labels(value["any"])
        known = default if isinstance(default, bool | int | float | str) and default in options else None
        label = choose(Dimension(path, options=tuple(options), default=known))
        return _resolve(path, options[label], choose)
    if isinstance(value, dict):
        family = _family(path) if isinstance(value.get("method"), str) else ""
        cls = find(family, value["method"]) if family else None
        inner = f"{path}.{value['method']}" if cls is not None else path
        return {
            key: item
            if key == "method"
            else _resolve(f"{inner}.{key}", item, choose, _default(cls, key), key in getattr(cls, "differentiable", ()))
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_resolve(f"{path}.{i + 1}", item, choose) for i, item in enumerate(value)]
    return value


def _family(path: str) -> str:
    """The family of a table at this path of a spec; "" where it is of none.

    >>> _family("train.adam.augment.1"), _family("serve")
    ('augment', '')
    """
    return next((key for key in reversed(path.split(".")) if key in FAMILIES), "")


def _default(cls: type[Any] | None, key: str) -> Any:
    return getattr(cls, key, None) if cls is not None else None


def _labels(options: list[Any]) -> dict[Any, Any]:
    """Options by label: a table's method, or the value itself; equal labels are numbered."""
    found: dict[Any, Any] = {}
    for number, option in enumerate(options):
        label = option.get("method", str(number + 1)) if isinstance(option, dict) else option
        if isinstance(label, list | dict):
            label = str(label)
        if label in found:
            label = f"{label}#{number + 1}"
        found[label] = option
    return found


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
    check_aims(spec.goal.maximize, spec.goal.minimize, spec.goal.reach, spec.goal.limit, FLOORS)
    if not 0 <= (spec.goal.allow_loss or 0) < 1:
        said = f"goal.allow_loss = {spec.goal.allow_loss}"
        raise OutOfBounds(said, "expected a share from 0 on, below 1", "Write 0.01 for one point in a hundred.")
    for stage in ("data", "train"):
        for option in _options(getattr(spec, stage)):
            _check_table(stage, option, stage)
    for key in ("sampler", "stopper", "generator"):
        if not isinstance(given := spec.search.get(key) or {}, Mapping):
            meant = given if given in names(key) else names(key)[0]
            hint = f'Write {key} = {{ method = "{meant}" }}.'
            raise SpecError(f"search.{key}", f"expected a table, got {given!r}", hint)
        for option in _options(dict(given)):
            _check_table(key, option, f"search.{key}")
    for option in _options(spec.arch):
        _check_table("arch", option, "arch")
    for stage in ("prepare", "compress"):
        for step in getattr(spec, stage) or ():
            for option in _options({key: value for key, value in step.items() if key != "optional"}):
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
                for option in (option for inner in end for option in _options(inner)):
                    _check_table(name, option, f"{where}.{table['method']}.{name}")


def _ends(value: Any, where: str) -> list[Any]:
    if is_range(value):
        said = f"{where} = {_written(value)}"
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
    bodies: set[BodyKind] = {_class("arch", option, Arch, Heir).body for option in _options(spec.arch)}
    bodies = bodies or {live or "graph"}
    for step in spec.compress or ():
        options = _options({key: value for key, value in step.items() if key != "optional"})
        if not any(fits(option, body) for option in options for body in bodies):
            takes = sorted({kind for option in options for kind in _class("compress", option, Compressor).takes})
            raise SpecError(
                f"compress.{options[0]['method']}",
                f"fits no branch: it takes a {' or '.join(takes)}, and arch gives a {' or '.join(sorted(bodies))}",
                "Leave the step out, or add an arch that it can take.",
            )
        bodies = {_after(option, body) for option in options for body in bodies if fits(option, body)} | {
            body for body in bodies if step.get("optional") or not any(fits(option, body) for option in options)
        }
