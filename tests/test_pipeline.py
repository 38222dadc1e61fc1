"""Pipelines: what fits together, what does not, and in which words."""

from __future__ import annotations

import pytest

from modelmill.errors import SpecError
from modelmill.pipeline import Pipeline, Step, plan
from modelmill.signature import Field, Signature

SCALE = Signature("compute", (Field("x", "FP32", (-1, 3)),), (Field("y", "FP32", (-1, 3)),), example=([1.0, 2.0, 3.0],))
CLASSIFY = Signature(
    "classify",
    (Field("features", "FP32", (-1, 3)),),
    (Field("label", "BYTES"), Field("probabilities", "FP32", (-1, 2))),
    ("a", "b"),
    "letter",
)
SIGNATURES = {"scale@1": SCALE, "letters@2": CLASSIFY}
FIRST = Step("scale@1", {"x": "raw"}, {"y": "scaled"})
LAST = Step("scale@1", {"x": "l"}, {"y": "z"})
SECOND = Step("letters@2", {"features": "scaled"}, {"label": "label", "probabilities": "probabilities"})


def refused(*steps, outputs=()):
    with pytest.raises(SpecError) as error:
        plan(Pipeline(steps, outputs), SIGNATURES)
    return str(error.value)


def test_a_pipeline_takes_what_nobody_gives_and_gives_what_nobody_takes():
    made, signature = plan(Pipeline((SECOND, FIRST)), SIGNATURES)
    assert [step.model for step in made.steps] == ["scale@1", "letters@2"]
    assert [(field.name, field.shape) for field in signature.inputs] == [("raw", (-1, 3))]
    assert made.outputs == ("label", "probabilities")
    assert (signature.task, signature.classes, signature.target) == ("classify", ("a", "b"), "letter")
    assert signature.example == ([1.0, 2.0, 3.0],)


def test_outputs_may_be_named_and_renamed():
    renamed = Step("letters@2", {"features": "scaled"}, {"probabilities": "scores"})
    made, signature = plan(Pipeline((FIRST, renamed), ("scores", "scaled")), SIGNATURES)
    assert [field.name for field in signature.outputs] == ["scores", "scaled"]
    assert (signature.task, signature.classes) == ("compute", ())
    assert made.outputs == ("scores", "scaled")


@pytest.mark.parametrize(
    ("steps", "outputs", "words"),
    [
        ((), (), "has no steps"),
        ((Step("scale@1", {"z": "raw"}, {"y": "s"}),), (), "takes no 'z'"),
        ((Step("scale@1", {}, {"y": "s"}),), (), "takes x, too"),
        ((Step("scale@1", {"x": "raw"}, {"z": "s"}),), (), "gives no 'z'"),
        ((Step("scale@1", {"x": "raw"}, {}),), (), "nothing that scale@1 gives is used"),
        ((FIRST, Step("scale@1", {"x": "other"}, {"y": "scaled"})), (), "is given twice"),
        ((Step("scale@1", {"x": "a"}, {"y": "b"}), Step("scale@1", {"x": "b"}, {"y": "a"})), (), "wait for each other"),
        ((Step("scale@1", {"x": "a"}, {"y": "a"}),), (), "wait for each other"),
        ((FIRST, Step("letters@2", {"features": "raw"}, {"label": "l"})), ("nobody",), "no step gives 'nobody'"),
        (
            (Step("letters@2", {"features": "f"}, {"label": "l"}), Step("scale@1", {"x": "l"}, {"y": "z"})),
            (),
            "BYTES [-1]",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_words(steps, outputs, words):
    assert words in refused(*steps, outputs=outputs)
