from __future__ import annotations

import numpy as np
import pytest

from modelmill.method import find, name_of, names
from modelmill.train.trainers.estimator import Estimator


def only(progress):
    (step,) = list(progress)
    return step


def test_an_estimator_is_fitted_on_a_copy(make, judge):
    model, data, task = make("table", {"method": "tree"})
    step = only(Estimator()(model, data, task, judge, 0))
    assert step.values["valid_accuracy"] > 0.85
    assert not hasattr(model.body.value, "tree_")
    assert step.result.history[-1].startswith("train.estimator")


def test_a_regression_gives_values(make, judge):
    model, data, task = make("regress", {"method": "linear"})
    assert only(Estimator()(model, data, task, judge, 0)).values["valid_r2"] > 0.8


def test_balanced_classes_move_the_border_towards_the_rare_one(make, judge):
    model, data, task = make("table", {"method": "linear"})
    rare = np.flatnonzero(data.train.target == "big")[8:]
    few = type(data)(data.train.take(np.setdiff1d(np.arange(data.train.rows), rare)), data.valid, data.test)
    found = {}
    for weights in ("none", "balanced"):
        fitted = only(Estimator(class_weights=weights)(model, few, task, judge, 0)).result
        from modelmill.runtime.features import features

        found[weights] = fitted.body.value.predict(features(fitted.part, fitted.signature, data.test)).mean()
    big = found["none"], found["balanced"]  # class 0 is "big": a lower mean, more of them
    assert big[1] < big[0]


def test_an_estimator_that_takes_no_weights_says_so(make, judge):
    from dataclasses import replace

    from sklearn.neighbors import KNeighborsClassifier

    from modelmill.model import Body, Model, Part

    model, data, task = make("table", {"method": "tree"})
    model = Model((Part(Body("estimator", KNeighborsClassifier()), model.part.prepare),), model.signature)
    weighted = replace(data, train=replace(data.train, weights=np.ones(data.train.rows, np.float32)))
    assert "takes no weights" in only(Estimator()(model, weighted, task, judge, 0)).note


@pytest.mark.parametrize("name", names("train"))
def test_every_trainer_says_what_it_takes_and_reads_back_from_its_table(name):
    from modelmill.method import decode

    cls = find("train", name)
    assert cls.takes <= {"network", "estimator", "graph"}
    assert cls.__doc__
    assert name_of(cls) == name
    assert decode("train", cls().as_table()) == cls()
