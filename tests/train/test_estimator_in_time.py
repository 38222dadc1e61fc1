"""An ensemble that would take too long gets fewer members, and says so."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

from modelmill.train.estimate import _fit_in_time

X = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)


@pytest.mark.parametrize(
    "ensemble",
    [RandomForestClassifier(40, random_state=0, n_jobs=1), HistGradientBoostingClassifier(max_iter=40, random_state=0)],
)
def test_a_generous_time_changes_nothing(ensemble):
    from sklearn.base import clone

    timed = clone(ensemble)
    assert _fit_in_time(timed, lambda: timed.fit(X, Y), seconds=1e6) == []
    ensemble.fit(X, Y)
    assert np.array_equal(timed.predict_proba(X), ensemble.predict_proba(X))


def test_a_short_time_leaves_a_part_of_the_members():
    forest = RandomForestClassifier(80, random_state=0, n_jobs=1)
    (note,) = _fit_in_time(forest, lambda: forest.fit(X, Y), seconds=1e-6)
    assert note.startswith("10 of 80 members")
    assert len(forest.estimators_) == 10


def test_what_cannot_go_on_growing_is_fitted_once():
    from sklearn.linear_model import LogisticRegression

    calls = []
    assert _fit_in_time(LogisticRegression(), lambda: calls.append(1), seconds=1e-6) == []
    assert calls == [1]
