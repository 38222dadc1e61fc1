"""The cache of forms: right or not there, whatever happens to its files and to whoever writes them."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
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
DIGEST = "sha256:" + hashlib.sha256(ONNX).hexdigest()
COLUMNS = {"x": np.random.default_rng(1).standard_normal((3, SIZE)).astype(np.float32)}
RIGHT = Session(ONNX).run(COLUMNS)["y"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with one form, to be copied."""
    folder = tmp_path_factory.mktemp("forms")
    assert Forms(folder).make(DIGEST, lambda: ONNX, COLUMNS) is not None
    return folder


@pytest.fixture
def forms(made, tmp_path):
    """A cache with a form of its own, verified in its new place."""
    subprocess.run(["cp", "-a", f"{made}/.", str(tmp_path / "forms")], check=True)
    found = Forms(tmp_path / "forms")
    assert found.find(DIGEST) is not None
    return found


def never():
    raise AssertionError("nothing is to be made")


def test_a_form_answers_to_the_bit_and_its_quick_session_nearly_so(forms):
    form = forms.find(DIGEST)
    assert (form.graph.parent / WEIGHTS).stat().st_size > 3 * 4 * SIZE * SIZE
    assert np.array_equal(Session(form.graph, made=True).run(COLUMNS)["y"], RIGHT)
    assert np.allclose(Session(form.graph, lean=True).run(COLUMNS)["y"], RIGHT, atol=1e-5)
    assert forms.make(DIGEST, never, COLUMNS) == form


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
    form = forms.make(DIGEST, lambda: ONNX, COLUMNS)
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
    forms = Forms(tmp_path)
    assert forms.make(DIGEST, lambda: b"broken", {}) is None
    assert not forms.may_be_made(DIGEST)
    assert Forms(tmp_path).make(DIGEST, never, {}) is None  # another process reads that it is unfit


def test_a_folder_that_cannot_be_written_costs_the_form_and_nothing_else(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    forms = Forms(tmp_path / "file" / "forms")
    assert forms.find(DIGEST) is None
    assert forms.make(DIGEST, lambda: ONNX, COLUMNS) is None


def test_a_full_disk_costs_the_form_and_leaves_nothing(tmp_path, monkeypatch):
    forms = Forms(tmp_path)
    monkeypatch.setattr("modelmill.serve.models.forms.SPARE_BYTES", 1 << 62)
    assert forms.make(DIGEST, lambda: ONNX, COLUMNS) is None
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_what_was_used_longest_ago_goes_when_the_folder_is_full(forms):
    data = [wide(seed)[0] for seed in (1, 2)]
    digests = ["sha256:" + hashlib.sha256(part).hexdigest() for part in data]
    size = forms.find(DIGEST).size
    small = Forms(forms.folder, most_bytes=size + 3 * len(ONNX) + 1000)
    old = time.time() - 100
    os.utime(forms.place(DIGEST) / MANIFEST, (old, old))
    assert small.make(digests[0], lambda: data[0], COLUMNS) is not None
    assert small.make(digests[1], lambda: data[1], COLUMNS) is not None
    assert small.find(DIGEST) is None
    assert small.find(digests[0]) is not None


MAKER = """
import sys
from pathlib import Path
sys.path[:0] = {tests!r}
from test_forms import COLUMNS, DIGEST, ONNX
from modelmill.serve.models.forms import Forms
form = Forms(Path({folder!r})).make(DIGEST, lambda: ONNX, COLUMNS)
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
    forms = Forms(tmp_path)
    if forms.find(DIGEST) is None:  # it had not renamed it yet
        assert list(tmp_path.glob(".*.part"))
    assert forms.make(DIGEST, lambda: ONNX, COLUMNS) is not None
    assert not list(tmp_path.glob(".*.part"))
    assert np.array_equal(Session(forms.find(DIGEST).graph, made=True).run(COLUMNS)["y"], RIGHT)


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
def test_two_writers_make_one_form(tmp_path):
    said = [process.communicate(timeout=120)[0].strip() for process in [maker(tmp_path), maker(tmp_path)]]
    assert said == [str(Forms(tmp_path).place(DIGEST) / GRAPH)] * 2


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
    before = first.find("wide").lane.session
    assert np.array_equal(answer(first), RIGHT)
    assert eventually(lambda: first.find("wide").lane.session is not before)
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
    damage(Forms(tmp_path / "forms").place(DIGEST) / WEIGHTS, flipped)
    found = catalogue(shelf, tmp_path / "forms")
    assert np.array_equal(answer(found), RIGHT)
    found.close()
