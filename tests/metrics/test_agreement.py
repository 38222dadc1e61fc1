"""Agreement: how far answers are those of the model that is replaced."""

import numpy as np
import pytest

from modelmill.dataset import Dataset
from modelmill.errors import SpecError
from modelmill.metrics.agreement import Agreement
from modelmill.metrics.score import interval, score
from modelmill.task.compute import taught

RNG = np.random.default_rng(0)


def agreement(said, true):
    return score(["agreement"], said, taught(true), ())["agreement"]


def test_numbers_agree_as_far_as_the_error_is_small_against_their_spread():
    true = np.array([1.0, 3.0, 5.0, 7.0])
    # Errors of 1 everywhere; the variance is 5.
    assert agreement({"y": true + np.array([1, -1, 1, -1])}, {"y": true}) == pytest.approx(1 - (1 / 5) ** 0.5)
    assert agreement({"y": true}, {"y": true}) == 1
    assert agreement({"y": true[::-1]}, {"y": true}) == 0


def test_a_constant_that_is_met_agrees_and_one_that_is_missed_does_not():
    true = {"y": np.full(5, 0.25)}
    assert agreement(true, true) == 1
    assert agreement({"y": np.full(5, 0.26)}, true) == 0


def test_rows_of_probabilities_agree_where_the_greatest_is_the_same():
    true = np.array([[0.2, 0.8], [0.7, 0.3], [0.9, 0.1], [0.4, 0.6]], np.float32)
    said = np.array([[0.4, 0.6], [0.6, 0.4], [0.45, 0.55], [0.3, 0.7]], np.float32)
    assert agreement({"p": said}, {"p": true}) == 0.75


def test_scores_that_are_no_probabilities_are_numbers():
    true = RNG.normal(size=(50, 3))
    assert 0.9 < agreement({"scores": true * 1.05}, {"scores": true}) < 1


@pytest.mark.parametrize("values", [np.array(["a", "b", "c", "a"], object), np.array([3, 1, 2, 3])])
def test_words_and_whole_numbers_agree_where_they_are_the_same(values):
    said = values.copy()
    said[1] = values[0]
    assert agreement({"label": said}, {"label": values}) == 0.75


def test_a_longer_word_is_not_cut_to_one_that_would_be_right():
    assert agreement({"w": np.array(["aab"], object)}, {"w": np.array(["aa"], object)}) == 0


def test_the_worst_output_decides():
    true = {"a": RNG.normal(size=20), "b": np.arange(20)}
    assert agreement({"a": true["a"], "b": true["b"] // 2}, true) < 0.1


def test_a_number_that_is_not_finite_spoils_it_and_agrees_with_its_like():
    true = np.array([1.0, 2.0, np.nan, np.inf])
    assert agreement({"y": true}, {"y": true}) == 1
    assert agreement({"y": np.array([1.0, np.nan, np.nan, np.inf])}, {"y": true}) == 0


@pytest.mark.parametrize("shape", [(40,), (40, 3), (40, 2, 5)])
def test_parts_merge_to_the_figure_of_the_whole(shape):
    true, metric = RNG.normal(3, 2, shape), Agreement()
    said = true + RNG.normal(size=shape) / 9
    target = taught({"y": true})
    parts = [metric.part({"y": said[i : i + 7]}, target[i : i + 7], ()) for i in range(0, 40, 7)]
    merged = parts[-1]
    for part in parts[:-1]:
        merged = metric.merge(merged, part)
    assert metric.total(merged) == pytest.approx(agreement({"y": said}, {"y": true}), rel=1e-9)


def test_it_has_an_interval_and_no_other_metric_speaks_of_the_task():
    true = RNG.normal(size=(200, 4))
    outputs, target = {"y": true + RNG.normal(size=true.shape) / 10}, taught({"y": true})
    low, high = interval("agreement", outputs, target, (), seed=0)
    assert low < score(["agreement"], outputs, target, ())["agreement"] < high
    with pytest.raises(SpecError, match="the task is compute"):
        score(["r2"], outputs, target, ())


def test_rows_with_taught_targets_are_a_data_set_with_a_digest():
    fields, columns = (), {"x": np.arange(3)}
    first, second = (Dataset(fields, columns, taught({"y": np.array([0.5, 1, last])})).digest for last in (2.0, 3.0))
    assert first != second
    assert Dataset(fields, columns, taught({"y": np.arange(3.0)})).take(np.array([2])).target["y"].tolist() == [2.0]
