from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelmill.dataset import Dataset
from modelmill.errors import ModelError, OutOfMemory
from modelmill.fragment import Writer
from modelmill.graph.build import to_onnx
from modelmill.model import Body, Part
from modelmill.prepare.chain import prepare
from modelmill.prepare.onehot import Onehot
from modelmill.prepare.scale import Scale
from modelmill.runtime import features as kept
from modelmill.runtime.features import digest, features
from modelmill.runtime.session import Session
from modelmill.signature import Field, Signature

X = Field("x", "FP32", (-1, 2))


def doubling() -> bytes:
    writer = Writer()
    writer.rename(writer.op("Add", ["x", "x"]), "twice")
    writer.rename(writer.op("Neg", ["x"]), "minus")
    return to_onnx(writer.fragment(), [X], [Field("twice", "FP32", (-1, 2)), Field("minus", "FP32", (-1, 2))])


def test_a_session_runs_bytes_and_files(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(doubling())
    for source in (doubling(), path, str(path)):
        session = Session(source)
        assert (session.inputs, session.outputs) == (["x"], ["twice", "minus"])
        assert session.run({"x": np.ones((1, 2), np.float32)})["twice"].tolist() == [[2, 2]]


class Full:
    """What runs out of memory."""

    def run(self, *given: object) -> None:
        raise MemoryError("no room for the outputs")


def test_a_run_without_memory_is_a_failure_of_its_own() -> None:
    session = Session(doubling())
    session._session = Full()
    with pytest.raises(OutOfMemory, match="needs more memory for this run than there is"):
        session.run({"x": np.ones((1, 2), np.float32)})


def test_only_the_outputs_that_are_named_come_back() -> None:
    assert list(Session(doubling()).run({"x": np.ones((1, 2), np.float32)}, ["minus"])) == ["minus"]


def test_batches_give_what_the_whole_gives() -> None:
    session, x = Session(doubling()), np.arange(14, dtype=np.float32).reshape(7, 2)
    whole, cut = session.run({"x": x}), session.run_batches({"x": x}, batch_rows=3)
    assert all((whole[name] == cut[name]).all() for name in whole)


@pytest.mark.parametrize("columns", [{}, {"y": np.ones(1)}, {"x": np.ones((1, 2))}, {"x": np.ones((1, 3), np.float32)}])
def test_what_the_runtime_refuses_is_a_model_error_of_one_line(columns: dict[str, np.ndarray]) -> None:
    with pytest.raises(ModelError) as caught:
        Session(doubling()).run(columns)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_model_is_refused_without_a_word_on_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        Session(b"no model")
    with pytest.raises(ModelError, match=r"none\.onnx: cannot be loaded"):
        Session(tmp_path / "none.onnx")
    assert capfd.readouterr() == ("", "")


def test_an_operator_that_the_runtime_does_not_have_is_named_with_its_opset() -> None:
    writer = Writer()
    writer.rename(writer.op("Erf", ["x"]), "y")
    graph = to_onnx(writer.fragment(), [Field("x", "FP64", (-1, 2))], [Field("y", "FP64", (-1, 2))])
    with pytest.raises(ModelError, match=r"onnxruntime \S+ has no Erf of opset 13 for these types") as caught:
        Session(graph)
    assert caught.value.hint == "Export the model with an opset below 13 or in other types, or update onnxruntime."


FIELDS = (Field("a", "FP32"), Field("city", "BYTES", kind="category"))


def some(rows: int, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    cities = np.array(["x", "y"], object)[rng.integers(0, 2, rows)]
    return Dataset(FIELDS, {"a": rng.normal(size=rows).astype(np.float32), "city": cities})


SIGNATURE = Signature("regress", FIELDS, ())


def part(train: Dataset) -> Part:
    return Part(Body("estimator", None), prepare([Onehot(), Scale()], train, "table").fragment)


def test_features_are_the_prepared_rows_and_are_worked_out_once() -> None:
    train = some(30)
    first = features(part(train), SIGNATURE, train)
    assert first.shape == (30, 3)
    np.testing.assert_allclose(first[:, 0].mean(), 0, atol=1e-6)
    # Another fragment of equal content, and equal rows in another object: the same array.
    assert features(part(train), SIGNATURE, some(30)) is first
    assert features(part(train), SIGNATURE, some(30, 1)) is not first
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1


def test_only_the_last_features_are_kept() -> None:
    train = some(10)
    for seed in range(kept.KEPT + 3):
        features(part(train), SIGNATURE, some(10, 100 + seed))
    assert len(kept._kept) == kept.KEPT


def test_large_features_are_not_heaped_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "KEPT_BYTES", 300)
    train = some(10)
    newest = [features(part(train), SIGNATURE, some(10, 200 + seed)) for seed in range(4)]
    assert [array is newest[-1 - i] for i, array in enumerate(reversed(kept._kept.values()))] == [True, True]


def test_fragments_are_told_apart_by_their_constants() -> None:
    assert digest(part(some(30)).prepare) == digest(part(some(30)).prepare) != digest(part(some(30, 2)).prepare)


def test_a_part_without_preparation_is_refused() -> None:
    with pytest.raises(ModelError, match="no preparation"):
        features(Part(Body("graph", b"")), SIGNATURE, some(3))


def test_what_fails_in_a_run_is_told_without_the_places_of_another_source() -> None:
    writer = Writer()
    writer.rename(writer.op("Reshape", [writer.constant(np.zeros(4, np.float32)), "sizes"]), "y")
    session = Session(to_onnx(writer.fragment(), [Field("sizes", "INT64", (-1,))], [Field("y", "FP32", (-1, -1))]))
    with pytest.raises(ModelError, match="cannot be reshaped") as caught:
        session.run({"sizes": np.array([3, 5])})
    assert "onnxruntime_src" not in str(caught.value)
