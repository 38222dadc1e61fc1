"""What to do, as one TOML file or one value: a table a stage, and any setting may be a range.

A range is `{ low, high, log, step }`, a choice is `{ any = [...] }` of values or of whole tables; these ranges are the
search space. `walk` goes through a spec and asks at every range; what comes back is a spec without ranges.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from modelmill.contracts import Compressor, Trainer
from modelmill.errors import OutOfBounds, SourceError, SpecError, UnknownName
from modelmill.method import find, names
from modelmill.model import Kind as BodyKind
from modelmill.space import Choose, Dimension, Walk

Table = dict[str, Any]

COSTS: dict[str, str] = {
    "latency_ms": "median time of one row on one thread, in milliseconds",
    "latency_p99_ms": "99th percentile of the same calls, in milliseconds",
    "throughput_rps": "rows a second, 32 at a time (a floor)",
    "size_kb": "bytes / 1000 of every file served",
    "stored_kb": "bytes / 1000 of the model's file as the store keeps it, packed",
    "memory_mb": "growth of the process by loading and running, in megabytes",
    "energy_mj": "millijoules a row; modelled where no counter exists",
    "macs": "multiply-adds of one row",
    "cpu_seconds": "processor seconds of a thousand rows",
}
"""What may be limited or minimized beside metrics."""

KILOBYTES = {"size_kb": "size_bytes", "stored_kb": "stored_bytes"}
"""Costs that are those of another name, divided by 1000."""

FAMILIES = ("arch", "prepare", "train", "compress", "augment")
"""Keys below which a table with a `method` is one of that family; the innermost of a path counts."""

NESTED = ("augment", "prepare")
"""Settings of a method that are lists of tables of the family of that name, where a method has one of that name."""

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
    _lists(tables, "")
    try:
        return msgspec.convert({**tables, "goal": goal}, Spec)
    except msgspec.ValidationError as error:
        raise OutOfBounds("spec", str(error), "See the page on specs.") from None


def _lists(value: Any, where: str) -> None:
    """Refuse a choice that is no list, wherever it stands."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            place = f"{where}.{key}".lstrip(".")
            if key == "any" and not isinstance(item, list | tuple):
                raise SpecError(place, f"expected a list of options, got {item!r}", f"Write any = [{item!r}].")
            _lists(item, place)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            _lists(item, f"{where}.{number + 1}")


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
    options = [option for option in options_of(table) if body in class_of("train", option, Trainer).takes]
    if not options:
        return {"method": "estimator" if body == "estimator" else "adam"}
    picked: Table = _resolve("train", options[0] if len(options) == 1 else {"any": options}, choose)
    return picked


def _steps(stage: str, steps: tuple[Table, ...], choose: Choose, body: BodyKind | None) -> Iterator[Table]:
    for number, step in enumerate(steps):
        options = [option for option in options_of(step) if body is None or fits(option, body)]
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
            body = after(picked, body)


def _alone(steps: tuple[Table, ...], number: int) -> bool:
    """Whether a step is told from all others without its place: by its methods, and as the only one with a choice."""
    own = options_of(steps[number])
    others = [options_of(step) for i, step in enumerate(steps) if i != number]
    known = {option.get("method") for option in own}
    return not any(
        known & {option.get("method") for option in other} or (len(own) > 1 and len(other) > 1) for other in others
    )


def fits(step: Table, body: BodyKind) -> bool:
    """Whether a step of `compress` can take a body, a network converted to a graph where it must be.

    An estimator's graph has nothing that a step for graphs could change: trees, or a handful of weights.
    """
    takes = class_of("compress", step, Compressor).takes
    return body in takes or (body == "network" and "graph" in takes)


def after(step: Table, body: BodyKind) -> BodyKind:
    """The kind of body that a step of `compress` leaves."""
    cls = class_of("compress", step, Compressor)
    return cls.gives or (body if body in cls.takes else "graph")


def options_of(table: Table) -> list[Table]:
    """The tables of a choice, or the table itself where it is none; nothing of an empty one."""
    if not table:
        return []
    return list(table["any"]) if "any" in table else [table]


def class_of(stage: str, table: Table, *contracts: type[Any]) -> type[Any]:
    """The class of the method that a table names. Raises SpecError where it names none, or one of another contract."""
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
