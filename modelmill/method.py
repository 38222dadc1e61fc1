"""A method is one algorithm: a frozen value in a file of its own, found by its path.

`compress/prune/magnitude.py` holds one public class, `Magnitude`; in a spec it is `prune.magnitude` below
`compress`. To list methods the files are parsed, never imported.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Self, cast, dataclass_transform, get_type_hints

import msgspec

from modelmill.bounds import place, wanted
from modelmill.errors import MissingExtra, OutOfBounds, SpecError, UnknownName

PACKAGE = "modelmill"
ROOT = Path(__file__).parent

HOMES: dict[str, str] = {
    "data": "data/sources",
    "check": "data/checks",
    "train": "train/trainers",
    "sampler": "search/samplers",
    "stopper": "search/stoppers",
    "generator": "search/generators",
    "detector": "monitor/detectors",
    "importer": "registry/importers",
    "router": "serve/routers",
}
"""Keys of a spec that name a family which does not lie at `KEY/`."""


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Method:
    """One algorithm: its fields are the settings, its call is the algorithm.

    Every subclass becomes a frozen dataclass with keyword-only fields, and each field is checked against its
    annotation, `Annotated[float, Meta(ge=0, lt=1)]`, when a value is made.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        _copy_defaults(cls)
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)

    def __post_init__(self) -> None:
        for name, annotation in settings(type(self)).items():
            try:
                value = msgspec.convert(getattr(self, name), annotation, str_keys=True)
            except msgspec.ValidationError as error:
                where = f"{name_of(type(self))}.{name}"
                raise _out_of_bounds(where, getattr(self, name), annotation, error) from None
            object.__setattr__(self, name, value)

    def as_table(self) -> dict[str, Any]:
        """The method as a table of a spec: `{"method": NAME, SETTING: VALUE, ...}`.

        `decode` reads it back. Nested methods become nested tables.
        """
        table: dict[str, Any] = {"method": name_of(type(self))}
        for name in settings(type(self)):
            value = getattr(self, name)
            table[name] = value.as_table() if isinstance(value, Method) else msgspec.to_builtins(value)
        return table

    def replace(self, **changes: Any) -> Self:
        """The same method with some settings changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]


def _copy_defaults(cls: type[Method]) -> None:
    """Let a dict or list stand as a default: dataclasses want a factory for it."""
    for name in inspect.get_annotations(cls):
        default = cls.__dict__.get(name)
        if isinstance(default, dict | list):
            setattr(cls, name, dataclasses.field(default_factory=default.copy))


def settings(cls: type[Method]) -> dict[str, Any]:
    """The annotations of a method's settings, by name, in the order in which they are written."""
    hints = _hints(cast("Any", cls))
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}  # type: ignore[arg-type]


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def home(key: str) -> Path:
    """The folder of the family that the key of a spec names: `compress`, `train`, `sampler` ..."""
    return ROOT / HOMES.get(key, key)


def names(key: str) -> list[str]:
    """The names of all methods below the folder of `key`, read from the files.

    >>> "magnitude" in [name.split(".")[-1] for name in names("compress")]
    True
    """
    return [entry.name for entry in catalogue(key)]


def find(key: str, name: str, where: str = "") -> type[Any]:
    """The class of the method `name` in the family that `key` names.

    Raises UnknownName, with the closest names; MissingExtra where the file needs a library that is not there.
    """
    where = where or key
    if ":" in name:
        return _foreign(name, where)
    module = _module(key, name)
    if module is None:
        raise UnknownName.among(where, f"{key} method", name, names(key))
    return _load(module, camel(name.rpartition(".")[2]), where)


@cache
def _module(key: str, name: str) -> str | None:
    """The module of a method of ours; None where no file has that name."""
    path = home(key).joinpath(*name.split(".")).with_suffix(".py")
    if not name.replace(".", "").replace("_", "").isalnum() or not path.is_file():
        return None
    return ".".join((PACKAGE, *path.relative_to(ROOT).with_suffix("").parts))


def _foreign(name: str, where: str) -> type[Any]:
    package, _, stem = name.partition(":")
    return _load(f"{package}.{stem}", camel(stem.rpartition(".")[2]), where)


def _load(module: str, cls: str, where: str) -> type[Any]:
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and not module.startswith(error.name):
            raise MissingExtra.of(where, error.name, "mill") from error
        raise UnknownName(where, f"no module named {module!r}", "A method from elsewhere is 'package:file'.") from None
    found = getattr(loaded, cls, None)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise UnknownName(where, f"{module} holds no method class {cls}", "The class has the file's name in CamelCase.")
    return found


def decode(key: str, table: Mapping[str, Any], where: str = "") -> Any:
    """The method that a table of a spec describes; the table has no ranges left."""
    where = where or key
    if "method" not in table:
        raise SpecError(where, "the table names no method", f"Known: {', '.join(names(key))}.")
    cls = find(key, str(table["method"]), where)
    given = {name: value for name, value in table.items() if name != "method"}
    check_names(cls, given, where)
    return cls(**given)


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def check_names(cls: type[Method], given: Mapping[str, Any], where: str) -> None:
    """Refuse a setting that the method does not have, with the closest names, and the lack of one that it needs."""
    known = settings(cls)
    for name in given:
        if name not in known:
            raise UnknownName.among(f"{where}.{name_of(cls)}", "setting", name, known)
    made: Any = cls
    missing = [f.name for f in dataclasses.fields(made) if _required(f) and f.name not in given]
    if missing:
        hint = f"`modelmill methods` says what the settings of {where} are."
        raise SpecError(where, f"{name_of(cls)} needs the setting {missing[0]!r}", hint)


def check_value(cls: type[Method], setting: str, value: Any, where: str) -> None:
    """Refuse a value that the setting of the method cannot take: the end of a range, say."""
    annotation = settings(cls)[setting]
    try:
        msgspec.convert(value, annotation, str_keys=True)
    except msgspec.ValidationError as error:
        raise _out_of_bounds(f"{where}.{name_of(cls)}.{setting}", value, annotation, error) from None


def _out_of_bounds(where: str, value: Any, annotation: Any, error: msgspec.ValidationError) -> OutOfBounds:
    hint = f"`modelmill methods` lists the bounds of {where}."
    items = "".join(f"[{key}]" for key in place(error))
    return OutOfBounds(f"{where} = {value!r}", wanted(annotation, error) + (f" at {items}" if items else ""), hint)


def name_of(cls: type[Method]) -> str:
    """The name of a method in a spec: its path below the stage's folder.

    >>> from modelmill.compress.prune.magnitude import Magnitude
    >>> name_of(Magnitude)
    'prune.magnitude'
    """
    module = cls.__module__
    if not module.startswith(PACKAGE + "."):
        package, _, stem = module.rpartition(".")
        return f"{package}:{stem}"
    return _path_name(module)


def _path_name(module: str) -> str:
    path = module.removeprefix(PACKAGE + ".").replace(".", "/")
    for folder in HOMES.values():
        if path.startswith(folder + "/"):
            return path.removeprefix(folder + "/").replace("/", ".")
    return path.partition("/")[2].replace("/", ".")


def camel(stem: str) -> str:
    """A class's name from its file's.

    >>> camel("page_hinkley")
    'PageHinkley'
    """
    return "".join(word.capitalize() for word in stem.split("_"))


class Setting(msgspec.Struct, frozen=True):
    """One setting of a method, as written in its file."""

    name: str
    type: str
    default: str
    bounds: str
    doc: str


class Entry(msgspec.Struct, frozen=True):
    """One method, as written in its file."""

    family: str
    name: str
    contract: str
    doc: str
    paper: str
    settings: tuple[Setting, ...]


@cache
def contracts() -> frozenset[str]:
    """The names of all contracts: the classes of `contracts.py` that derive from Method."""
    page = ast.parse((ROOT / "contracts.py").read_text("utf-8"))
    return frozenset(node.name for node in page.body if isinstance(node, ast.ClassDef) and "Method" in _bases(node))


def catalogue(key: str = "") -> list[Entry]:
    """Every method below the folder of `key` (or of all families), parsed from the files and sorted by name."""
    folder = home(key) if key else ROOT
    found = (_entry(path) for path in sorted(folder.rglob("*.py")) if not path.name.startswith("_"))
    return [entry for entry in found if entry is not None]


def _entry(path: Path) -> Entry | None:
    if path.parent == ROOT:
        return None
    wanted = camel(path.stem)
    text = path.read_text("utf-8")
    if f"\nclass {wanted}(" not in text:
        return None
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef) and node.name == wanted:
            contract = next((base for base in _bases(node) if base in contracts()), None)
            if contract is None:
                return None
            doc = ast.get_docstring(node) or ""
            module = ".".join((PACKAGE, *path.relative_to(ROOT).with_suffix("").parts))
            return Entry(
                family=_family(path),
                name=_path_name(module),
                contract=contract,
                doc=doc.partition("\n\n")[0].replace("\n", " "),
                paper=_paper(doc),
                settings=tuple(_all_settings(node, path)),
            )
    return None


def _all_settings(node: ast.ClassDef, path: Path) -> list[Setting]:
    """The settings of a class, then those of the bases that it shares them with, which are no contracts."""
    found = _settings(node)
    page = ast.parse(path.read_text("utf-8"))
    imported = {
        alias.name: statement.module or ""
        for statement in page.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    for base in _bases(node):
        if base in contracts() or not imported.get(base, "").startswith(f"{PACKAGE}."):
            continue
        shared = ROOT.joinpath(*imported[base].split(".")[1:]).with_suffix(".py")
        classes = (item for item in ast.parse(shared.read_text("utf-8")).body if isinstance(item, ast.ClassDef))
        own = {setting.name for setting in found}
        found += [one for item in classes if item.name == base for one in _settings(item) if one.name not in own]
    return found


def _family(path: Path) -> str:
    folder = path.parent.relative_to(ROOT).as_posix()
    keys = {home_folder: key for key, home_folder in HOMES.items()}
    return keys.get(folder, folder)


def _bases(node: ast.ClassDef) -> list[str]:
    return [base.id if isinstance(base, ast.Name) else getattr(base, "attr", "") for base in node.bases]


def _paper(doc: str) -> str:
    """The last paragraph of a docstring, where it holds a year in brackets: the method's source."""
    last = " ".join(doc.rpartition("\n\n")[2].split())
    return last if any(f"({year}" in last for year in ("18", "19", "20")) else ""


def _settings(node: ast.ClassDef) -> list[Setting]:
    found = []
    for item, after in zip(node.body, [*node.body[1:], ast.Pass()], strict=True):
        if not (isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)):
            continue
        kind = item.annotation
        if isinstance(kind, ast.Subscript) and ast.unparse(kind.value) == "ClassVar":
            continue
        bounds = ""
        if isinstance(kind, ast.Subscript) and ast.unparse(kind.value) == "Annotated":
            parts = kind.slice.elts if isinstance(kind.slice, ast.Tuple) else []
            kind, bounds = parts[0], ", ".join(_bound(part) for part in parts[1:])
        is_doc = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        found.append(
            Setting(
                name=item.target.id,
                type=ast.unparse(kind),
                default=ast.unparse(item.value) if item.value is not None else "",
                bounds=bounds,
                doc=" ".join(str(after.value.value).split()) if is_doc else "",  # type: ignore[attr-defined]
            )
        )
    return found


def _bound(meta: ast.expr) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "length >=", "max_length": "length <="}
    words = meta.keywords if isinstance(meta, ast.Call) else []
    return ", ".join(f"{signs.get(word.arg or '', word.arg)} {ast.unparse(word.value)}" for word in words)


def families() -> list[str]:
    """The keys of all families that hold methods, sorted."""
    return sorted({entry.family for entry in catalogue()})
