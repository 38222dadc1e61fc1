"""A method is a frozen value, found by its path and checked when it is made."""

import dataclasses
import subprocess
import sys
from typing import Annotated

import pytest
from msgspec import Meta

from modelmill.errors import OutOfBounds, SpecError, UnknownName
from modelmill.method import ROOT, Method, catalogue, decode, families, find, name_of, names

ENTRIES = catalogue()
IDS = [f"{entry.family}:{entry.name}" for entry in ENTRIES]


class Sieve(Method):
    """A method of the tests."""

    ratio: Annotated[float, Meta(ge=0, lt=1)] = 0.5
    labels: list[str] = []


def key_of(entry):
    return entry.family.partition("/")[0] if "/" in entry.family else entry.family


def test_a_method_is_frozen_and_comparable():
    assert Sieve(ratio=0.25) == Sieve(ratio=0.25) != Sieve()
    with pytest.raises(dataclasses.FrozenInstanceError):
        Sieve().ratio = 0.1


def test_a_list_default_is_not_shared():
    assert Sieve().labels is not Sieve().labels


def test_a_setting_out_of_bounds_says_where_what_and_what_was_wanted():
    with pytest.raises(OutOfBounds, match=r"ratio = 2\.0: expected a number below 1"):
        Sieve(ratio=2.0)


def test_a_setting_of_another_type_is_refused():
    with pytest.raises(OutOfBounds, match="ratio = 'much': expected a number"):
        Sieve(ratio="much")


def test_an_unknown_method_names_the_closest():
    with pytest.raises(UnknownName, match=r"prune\.magnitude"):
        find("compress", "prune.magnitud")


@pytest.mark.parametrize("name", ["../mill", "prune/magnitude", "", "prune.", "..cli"])
def test_a_name_that_is_no_path_of_a_method_is_refused(name):
    with pytest.raises(UnknownName):
        find("compress", name)


def test_an_unknown_setting_names_the_closest():
    with pytest.raises(UnknownName, match=r"Did you mean ratio\?"):
        decode("compress", {"method": "prune.magnitude", "ration": 0.5})


def test_a_table_without_a_method_is_refused():
    with pytest.raises(SpecError, match="names no method"):
        decode("arch", {"depth": 2})


def test_a_method_from_another_package_is_found(tmp_path, monkeypatch):
    package = tmp_path / "theirs"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "half_life.py").write_text(
        "from modelmill.method import Method\nclass HalfLife(Method):\n    '''Theirs.'''\n    days: int = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    method = decode("arch", {"method": "theirs:half_life", "days": 5})
    assert method.days == 5
    assert method.as_table() == {"method": "theirs:half_life", "days": 5}


def test_listing_imports_no_method_and_no_heavy_library():
    code = (
        "import sys; from modelmill.method import catalogue; assert len(catalogue()) > 30;"
        "bad = {'torch', 'sklearn', 'numpy', 'onnx', 'onnxruntime'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_import_modelmill_brings_neither_torch_nor_onnxruntime():
    code = "import modelmill, sys; assert not {'torch', 'onnxruntime', 'numpy', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_stage_has_methods():
    stages = {entry.family.partition("/")[0] for entry in ENTRIES}
    assert {"data", "prepare", "task", "arch", "sampler", "train", "compress", "metrics", "evaluate"} <= stages


@pytest.mark.parametrize("entry", ENTRIES, ids=IDS)
def test_every_method_is_documented(entry):
    assert entry.doc[:1].isupper(), entry.doc
    assert entry.doc.endswith((".", "?", "!")), entry.doc
    for setting in entry.settings:
        assert setting.doc, f"{entry.name}.{setting.name} has no sentence"
        assert not any(word.isupper() for word in setting.bounds.split()), "a bound is a number, not a name in the code"


@pytest.mark.parametrize("entry", ENTRIES, ids=IDS)
def test_every_method_round_trips_through_a_spec(entry):
    key = key_of(entry)
    cls = find(key, entry.name)
    assert name_of(cls) == entry.name
    required = {"builtin": {"name": "iris"}}.get(entry.name, {})
    required |= {s.name: "x" for s in entry.settings if not s.default and s.name not in required}
    method = cls(**required)
    assert decode(key, method.as_table()) == method


def test_families_and_names_agree_with_the_files():
    assert "arch" in families()
    assert set(names("arch")) == {p.stem for p in (ROOT / "arch").glob("*.py")} - {"__init__"}
