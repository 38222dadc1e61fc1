"""The cache of forms: right or not there, whatever happens to its files and to whoever writes them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from patience import eventually

from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.registry.registry import Registry
from modelmill.runtime.forming import GRAPH, WEIGHTS
from modelmill.runtime.session import Session
from modelmill.serve.models.catalogue import Catalogue, Keeping
from modelmill.serve.models.forms import MANIFEST, Forms
from modelmill.signature import Field, Signature
from modelmill.store.blobs import Blobs, digest_of
from modelmill.store.home import Home

SIZE = 256


def wide(seed=0, layers=3):
    """A few matrices one after the other, large enough to lie beside the graph."""
    random = np.random.default_rng(seed)
    field = Field("x", "FP32", (-1, SIZE), "array")
    writer = Writer()
    value = "x"
    for _ in range(layers):
        weights = (random.standard_normal((SIZE, SIZE)) / SIZE**0.5).astype(np.float32)
        value = writer.op("Relu", [writer.op("MatMul", [value, writer.constant(weights)])])
    writer.rename(value, "y")
    outputs = (Field("y", "FP32", (-1, SIZE)),)
    return to_onnx(writer.fragment(), (field,), outputs), Signature("echo", (field,), outputs)


ONNX, SIGNATURE = wide()
DIGEST = digest_of(ONNX)
COLUMNS = {"x": np.random.default_rng(1).standard_normal((3, SIZE)).astype(np.float32)}
RIGHT = Session(ONNX).run(COLUMNS)["y"]


def cache(folder, *models, **settings):
    """The forms of a folder, and beside it the blobs of what forms may be made of."""
    blobs = Blobs(folder.with_name(f"{folder.name}-blobs"))
    for model in models:
        blobs.put(model)
    return Forms(folder, blobs, **settings)


def make(forms, onnx=ONNX, columns=COLUMNS):
    return forms.make(digest_of(onnx), len(onnx), columns)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with one form, to be copied."""
    folder = tmp_path_factory.mktemp("forms")
    assert make(cache(folder, ONNX)) is not None
    return folder


@pytest.fixture
def forms(made, tmp_path):
    """A cache with a form of its own, verified in its new place."""
    subprocess.run(["cp", "-a", f"{made}/.", str(tmp_path / "forms")], check=True)
    found = cache(tmp_path / "forms", ONNX)
    assert found.find(DIGEST) is not None
    return found


def never():
    raise AssertionError("nothing is to be made")


def test_a_form_answers_to_the_bit_and_its_quick_session_nearly_so(forms):
    form = forms.find(DIGEST)
    assert (form.graph.parent / WEIGHTS).stat().st_size > 3 * 4 * SIZE * SIZE
    assert np.array_equal(Session(form.graph, made=True).run(COLUMNS)["y"], RIGHT)
    assert np.allclose(Session(form.graph, lean=True).run(COLUMNS)["y"], RIGHT, atol=1e-5)
    forms.blobs.delete(DIGEST)
    assert make(forms) == form  # it was there


def test_a_form_of_another_processor_or_runtime_is_another(forms, monkeypatch):
    monkeypatch.setattr("modelmill.serve.models.forms.instructions", lambda: ["avx9"])
    assert forms.find(DIGEST) is None
    monkeypatch.undo()
    monkeypatch.setattr("onnxruntime.__version__", "9.9")
    assert forms.find(DIGEST) is None


def damage(path: Path, change):
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    path.write_bytes(change(data))


def flipped(data):
    data[len(data) // 2] ^= 1
    return data


@pytest.mark.parametrize("file", [GRAPH, WEIGHTS, MANIFEST])
@pytest.mark.parametrize("change", [flipped, lambda data: data[:-7], lambda data: b"", None])
def test_a_damaged_form_is_thrown_away_and_made_again(forms, file, change):
    path = forms.place(DIGEST) / file
    if change is None:
        path.unlink()
    else:
        damage(path, change)
    assert forms.find(DIGEST) is None
    assert not forms.place(DIGEST).exists()


def test_what_was_thrown_away_is_made_again(forms):
    damage(forms.place(DIGEST) / WEIGHTS, flipped)
    form = make(forms)
    assert np.array_equal(Session(form.graph, made=True).run(COLUMNS)["y"], RIGHT)


def test_files_that_were_only_touched_are_digested_once_and_kept(forms, monkeypatch):
    os.utime(forms.place(DIGEST) / WEIGHTS, (0, 0))
    assert forms.find(DIGEST) is not None
    monkeypatch.setattr("modelmill.serve.models.forms._digest", lambda path: never())
    assert forms.find(DIGEST) is not None


def test_a_link_in_place_of_a_file_is_no_form(forms, tmp_path):
    path = forms.place(DIGEST) / WEIGHTS
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert forms.find(DIGEST) is None


def test_a_form_in_the_place_of_another_model_is_no_form(forms):
    other = "sha256:" + "0" * 64
    forms.place(DIGEST).rename(forms.place(other))
    assert forms.find(other) is None


def test_a_mapped_form_that_is_thrown_away_still_answers(forms):
    session = Session(forms.find(DIGEST).graph, made=True)
    damage_later = forms.place(DIGEST) / MANIFEST
    damage(damage_later, flipped)
    assert forms.find(DIGEST) is None
    assert np.array_equal(session.run(COLUMNS)["y"], RIGHT)


def test_what_is_no_model_has_no_form_and_is_not_tried_again(tmp_path):
    forms = cache(tmp_path / "forms", b"broken")
    assert make(forms, b"broken", {}) is None
    other = cache(tmp_path / "forms")  # another process reads that it is unfit
    for each in (forms, other):
        assert each.find(digest_of(b"broken")) is None
        assert not each.may_be_made(digest_of(b"broken"))


def test_a_model_whose_bytes_are_not_as_they_were_put_has_no_form(tmp_path):
    forms = cache(tmp_path / "forms", ONNX)
    forms.blobs.path(DIGEST).write_bytes(wide(seed=1)[0])
    assert make(forms) is None
    assert not forms.place(DIGEST).exists()
    forms.blobs.put(ONNX)
    forms.refused.clear()
    assert make(forms) is not None


def test_a_folder_that_cannot_be_written_costs_the_form_and_nothing_else(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    forms = Forms(tmp_path / "file" / "forms", cache(tmp_path, ONNX).blobs)
    assert forms.find(DIGEST) is None
    assert make(forms) is None


def test_a_full_disk_costs_the_form_and_leaves_nothing(tmp_path, monkeypatch):
    forms = cache(tmp_path, ONNX)
    monkeypatch.setattr("modelmill.serve.models.forms.SPARE_BYTES", 1 << 62)
    assert make(forms) is None
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_what_was_used_longest_ago_goes_when_the_folder_is_full(forms):
    data = [wide(seed)[0] for seed in (1, 2)]
    size = forms.find(DIGEST).size
    small = cache(forms.folder, *data, most_bytes=size + 3 * len(ONNX) + 1000)
    old = time.time() - 100
    os.utime(forms.place(DIGEST) / MANIFEST, (old, old))
    assert make(small, data[0]) is not None
    assert make(small, data[1]) is not None
    assert small.find(DIGEST) is None
    assert small.find(digest_of(data[0])) is not None


MAKER = """
import sys
from pathlib import Path
sys.path[:0] = {tests!r}
from test_forms import ONNX, cache, make
form = make(cache(Path({folder!r}), ONNX))
print(form.graph, flush=True)
"""


def maker(folder):
    here = Path(__file__).parent
    tests = [str(here), str(here.parents[1] / "helpers")]
    program = textwrap.dedent(MAKER).format(tests=tests, folder=str(folder))
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_writer_that_is_killed_leaves_no_form_and_the_next_one_makes_it(tmp_path):
    process = maker(tmp_path)
    end = time.monotonic() + 60
    while not list(tmp_path.glob(".*.part/*")) and time.monotonic() < end and process.poll() is None:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    forms = cache(tmp_path, ONNX)
    if forms.find(DIGEST) is None:  # it had not renamed it yet
        assert list(tmp_path.glob(".*.part"))
    assert make(forms) is not None
    assert not list(tmp_path.glob(".*.part"))
    assert np.array_equal(Session(forms.find(DIGEST).graph, made=True).run(COLUMNS)["y"], RIGHT)


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
def test_two_writers_make_one_form(tmp_path):
    said = [process.communicate(timeout=120)[0].strip() for process in [maker(tmp_path), maker(tmp_path)]]
    assert said == [str(cache(tmp_path).place(DIGEST) / GRAPH)] * 2


class Reading:
    """A registry that counts the files that are read."""

    def __init__(self, registry):
        self.registry = registry
        self.read = []

    def __getattr__(self, name):
        return getattr(self.registry, name)

    def file(self, version, name):
        self.read.append(name)
        return self.registry.file(version, name)


@pytest.fixture
def shelf(tmp_path):
    place = Home(tmp_path / "home")
    registry = Registry(place.database, place.blobs)
    registry.publish("wide", {"model.onnx": ONNX}, SIGNATURE)
    return Reading(registry)


def catalogue(shelf, folder, form_bytes=1000):
    found = Catalogue(shelf, ["wide"], lambda *_: None, Keeping(forms=folder, form_bytes=form_bytes, eager=0))
    found.start()
    return found


def answer(found):
    return found.find("wide").lane.session.run(COLUMNS)["y"]


def test_a_model_answers_from_its_form_at_once_and_then_at_full_speed(shelf, tmp_path):
    first = catalogue(shelf, tmp_path / "forms")
    before = weakref.ref(first.find("wide").lane.session)
    assert np.array_equal(answer(first), RIGHT)
    assert eventually(lambda: before() is None)
    assert np.array_equal(answer(first), RIGHT)
    assert eventually(lambda: first.residents.used() < 2 * len(ONNX) + 600_000)
    first.close()
    shelf.read.clear()

    second = catalogue(shelf, tmp_path / "forms")
    endpoint = second.find("wide")
    assert np.allclose(answer(second), RIGHT, atol=1e-5)
    assert eventually(lambda: np.isfinite(endpoint.lane.pace.of(1)))  # the pace is that of the full speed
    assert eventually(lambda: np.array_equal(answer(second), RIGHT))
    assert not shelf.read
    second.close()


@pytest.mark.parametrize(("least_ms", "formed"), [(0.0, True), (1e6, False)], ids=["long runs", "short runs"])
def test_a_small_model_has_a_form_where_its_runs_are_long(shelf, tmp_path, monkeypatch, least_ms, formed):
    monkeypatch.setattr("modelmill.serve.engine.width.LEAST_MS", least_ms)
    found = catalogue(shelf, tmp_path / "forms", form_bytes=10 * len(ONNX))
    found.find("wide")
    forming = found.quickener.forming
    forming.submit(int).result(120)
    assert (found.quickener.forms.find(DIGEST) is not None) == formed
    found.close()


def test_how_many_threads_a_run_has_is_measured_once_on_a_node(shelf, made, tmp_path, monkeypatch):
    subprocess.run(["cp", "-a", f"{made}/.", str(tmp_path / "forms")], check=True)
    first = catalogue(shelf, tmp_path / "forms")
    first.find("wide")
    form = first.quickener.forms.find(DIGEST)
    assert eventually(lambda: form.threads(first.quickener.cores))
    first.close()
    monkeypatch.setattr("modelmill.serve.engine.width.chosen", lambda *_: never())
    second = catalogue(shelf, tmp_path / "forms")
    endpoint = second.find("wide")
    assert eventually(lambda: np.isfinite(endpoint.lane.pace.of(1)))
    second.close()
    assert form.threads(77) == 0
    form.graph.with_name("threads-77").write_text("99")
    assert form.threads(77) == 0


def test_a_damaged_form_never_answers(shelf, made, tmp_path):
    subprocess.run(["cp", "-a", f"{made}/.", str(tmp_path / "forms")], check=True)
    damage(cache(tmp_path / "forms").place(DIGEST) / WEIGHTS, flipped)
    found = catalogue(shelf, tmp_path / "forms")
    assert np.array_equal(answer(found), RIGHT)
    found.close()


MEASURING = """
import os, signal, sys, time
from pathlib import Path
from modelmill.registry.registry import Registry
from modelmill.runtime.memory import give_back, keep_apart, resident_bytes
from modelmill.serve.models.catalogue import Catalogue, Keeping
from modelmill.store.home import Home

keep_apart()
place = Home(Path(sys.argv[1]))
registry = Registry(place.database, place.blobs)
catalogue = Catalogue(registry, [], lambda *_: None, Keeping(forms=place.path / "cache", eager=0))
catalogue.start()
catalogue.find("small")
before = resident_bytes()
catalogue.find("large")
forms = catalogue.quickener.forms
while (child := forms.child) is None:
    time.sleep(0.001)
os.kill(child.pid, signal.SIGSTOP)
give_back()
print(resident_bytes() - before)
os.kill(child.pid, signal.SIGCONT)
catalogue.quickener.forming.submit(int).result(120)
print(forms.find(sys.argv[2]) is not None)
catalogue.close()
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory as Linux tells it")
def test_a_model_is_in_memory_once_while_its_form_is_made(tmp_path):
    place = Home(tmp_path)
    large, signature = wide(layers=160)
    registry = Registry(place.database, place.blobs)
    registry.publish("small", {"model.onnx": ONNX}, SIGNATURE)
    registry.publish("large", {"model.onnx": large}, signature)
    place.database.close()
    command = [sys.executable, "-c", MEASURING, str(tmp_path), digest_of(large)]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=240).stdout.split()
    assert len(large) > 40_000_000
    assert int(said[0]) < 1.7 * len(large)
    assert said[1] == "True"
