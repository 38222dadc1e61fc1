"""Distillation from a file as the teacher."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from quantized import graph

from modelmill.compress import chain
from modelmill.compress.distill.labels import told
from modelmill.compress.distill.logistic import Logistic
from modelmill.compress.distill.soft import Soft
from modelmill.compress.distill.tree import Tree
from modelmill.errors import ModelError
from modelmill.model import Body, Model, Part
from modelmill.runtime.rows import from_dataset
from modelmill.runtime.session import Session

MLP = {"method": "mlp", "width": 32, "depth": 1}


def teacher(make, judge, kind, epochs=15):
    """A model of which nothing is known but its file and signature."""
    model, data, task = graph(make, judge, MLP, kind, epochs)
    return Model((Part(Body("graph", model.body.value)),), model.signature), data, task


def last(step, model, data, task, judge):
    return list(chain.run([step], model, data, task, judge, 0))[-1].result


@pytest.mark.parametrize("step", [Soft(epochs=30, arch={"method": "mlp", "width": 8, "depth": 1}), Tree(), Logistic()])
@pytest.mark.parametrize("kind", ["table", "image"])
def test_a_student_of_a_file_learns_its_classes_and_is_smaller(make, judge, step, kind):
    model, data, task = teacher(make, judge, kind)
    student = last(step, model, data, task, judge)
    assert student.signature == model.signature
    assert len(student.body.value) < len(model.body.value) or isinstance(step, Logistic)
    found = Session(student.body.value).run(from_dataset(data.test))
    assert (found["label"] == data.test.target).mean() > 0.8


def test_it_learns_what_the_file_says_where_labels_are_wrong(make, judge):
    model, data, task = teacher(make, judge, "image")
    wrong = replace(data.train, target=np.random.default_rng(0).permutation(data.train.target))
    step = Soft(share=1.0, epochs=30, temperature=1.0)
    student = last(step, model, replace(data, train=wrong), task, judge)
    teacher_says, student_says = (told(one, data.test).argmax(1) for one in (model, student))
    assert (teacher_says == student_says).mean() > 0.9
    assert (teacher_says == data.test.target).mean() > 0.9


def test_values_of_a_file_are_learned(make, judge):
    model, data, task = teacher(make, judge, "regress", 60)
    student = last(Soft(share=1.0, epochs=60), model, data, task, judge)
    wanted, found = told(model, data.test), told(student, data.test)
    assert np.corrcoef(wanted, found)[0, 1] > 0.95


def test_a_file_without_a_meaning_is_refused(make, judge):
    model, data, task = teacher(make, judge, "table", 1)
    model = replace(model, signature=type(model.signature)("compute", model.signature.inputs, model.signature.outputs))
    with pytest.raises(ModelError, match=r"nobody has said which output is to be learned\. Import it with a task"):
        list(Soft()(model, data, task, judge, 0))


def test_an_arch_that_is_no_network_is_refused(make, judge):
    model, data, task = teacher(make, judge, "table", 1)
    with pytest.raises(ModelError, match=r"arch\.tree is no network"):
        list(Soft(arch={"method": "tree"})(model, data, task, judge, 0))
