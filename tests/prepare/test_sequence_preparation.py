"""Sequences: channels on one scale, steps last, and the same numbers in training and service."""

from __future__ import annotations

import numpy as np
import pytest

from modelmill.contracts import Array
from modelmill.dataset import Dataset
from modelmill.errors import ContentError, SpecError
from modelmill.graph.build import to_onnx
from modelmill.prepare.chain import Prepared, defaults, prepare
from modelmill.prepare.image import Image
from modelmill.prepare.scale import Scale
from modelmill.prepare.sequence import Sequence
from modelmill.recipe.grow import features_kind
from modelmill.runtime.session import Session
from modelmill.signature import Field

SERIES = (np.random.default_rng(3).normal(size=(40, 9, 2)) * [1, 1000] + [0, 5000]).astype(np.float32)


def arrays(values: Array) -> Dataset:
    field = Field("image", "FP32" if values.dtype == np.float32 else "INT16", (-1, *values.shape[1:]), "image")
    return Dataset((field,), {"image": values})


def run(prepared: Prepared, dataset: Dataset) -> Array:
    outputs = [Field("features", "FP32", (-1, *prepared.shape))]
    return Session(to_onnx(prepared.fragment, dataset.fields, outputs)).run(dataset.columns)["features"]


def test_every_channel_has_mean_0_and_deviation_1_with_its_steps_last() -> None:
    prepared = prepare([Sequence()], arrays(SERIES), "sequence")
    found = run(prepared, arrays(SERIES))
    assert prepared.shape == (2, 9)
    np.testing.assert_allclose(found.mean((0, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(found.std((0, 2)), 1, atol=1e-4)
    turned = (SERIES - SERIES.mean((0, 1))) / SERIES.std((0, 1))
    np.testing.assert_allclose(found, turned.transpose(0, 2, 1), atol=1e-4)


@pytest.mark.parametrize(("by", "low", "high"), [("minmax", 0, 1), ("none", 1, 9)])
def test_a_channel_may_go_from_0_to_1_or_stay(by: str, low: float, high: float) -> None:
    steps = np.arange(1, 10, dtype=np.int16).reshape(3, 3, 1)
    found = run(prepare([Sequence(by=by)], arrays(steps), "sequence"), arrays(steps))
    assert (found.min(), found.max()) == (low, high)
    assert found.shape == (3, 1, 3)


def test_a_constant_channel_becomes_0() -> None:
    flat = np.full((5, 4, 1), 7, np.float32)
    assert not run(prepare([Sequence()], arrays(flat), "sequence"), arrays(flat)).any()


def test_numbers_side_by_side_are_the_steps_of_one_channel() -> None:
    data = Dataset((Field("x", "FP32", (-1, 9), "array"),), {"x": np.ascontiguousarray(SERIES[:, :, 0])})
    found = run(prepare([], data, "sequence"), data)
    np.testing.assert_allclose(found, run(prepare([], arrays(SERIES[:, :, :1]), "sequence"), arrays(SERIES[:, :, :1])))


@pytest.mark.parametrize("steps", [[], [Image()], [Scale()]])
def test_steps_for_images_and_tables_give_way_where_a_body_takes_sequences(steps: list[Image | Scale]) -> None:
    assert prepare(steps, arrays(SERIES), "sequence").shape == (2, 9)


def test_a_body_for_tables_gets_the_values_of_a_sequence_side_by_side() -> None:
    assert prepare([Sequence()], arrays(SERIES), "table").shape == (18,)


def test_what_is_no_sequence_is_refused() -> None:
    with pytest.raises(ContentError, match=r"expected \(steps, channels\)"):
        prepare([Sequence()], arrays(np.zeros((2, 4, 4, 3), np.float32)), "sequence")
    text = Dataset((Field("city", "BYTES", kind="category"),), {"city": np.array(["a", "b"], object)})
    with pytest.raises(SpecError, match="takes sequences, and the steps give category"):
        prepare([], text, "sequence")
    with pytest.raises(SpecError, match="takes images, and the steps give sequence"):
        prepare([Sequence()], arrays(SERIES), "image")


def test_an_arch_says_that_features_are_sequences() -> None:
    data = arrays(SERIES)
    ours, cnn = {"method": "cell", "kind": "sequence"}, {"method": "cnn"}
    assert features_kind(data) == features_kind(data, cnn) == "image"
    assert features_kind(data, ours) == features_kind(data, {"any": [ours, ours]}) == "sequence"
    assert features_kind(data, {"any": [ours, cnn]}) == "image"
    assert defaults(data.fields, "sequence") == [{"method": "sequence"}]
