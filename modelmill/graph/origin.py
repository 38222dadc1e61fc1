"""Tells by the operations behind an output of a graph whether they make probabilities, as far as they say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

THROUGH = frozenset({"Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Clip"})
"""Operations that leave probabilities what they are."""

LABELS = frozenset({"classlabels_strings", "classlabels_int64s", "classlabels_ints"})
"""Where classifiers of classic machine learning have their classes."""


class Origin(NamedTuple):
    """What makes the probabilities of an output."""

    by: str = ""
    """The operation; empty where none tells that it makes some."""
    apart: bool = False
    """Whether every number is a probability by itself, so that several do not add up to 1."""


NOWHERE = Origin()


def origin(model: Any, name: str) -> Origin:
    """What makes the probabilities of an output, as far as operations tell."""
    makers = {output: node for node in model.graph.node for output in node.output}
    node = _behind(makers, name)
    if node is None:
        return NOWHERE
    if node.op_type == "Concat":
        return _of_two(makers, node)
    if node.op_type == "Normalizer" and _setting(node, "norm") == "L1":
        before = _behind(makers, node.input[0])
        return Origin(_made(before).by) if before is not None else NOWHERE
    return _made(node)


def _behind(makers: Mapping[str, Any], name: str) -> Any:
    """The operation that makes a value, behind those that leave it what it is; None for what is given."""
    node = makers.get(name)
    while node is not None and node.op_type in THROUGH:
        node = makers.get(node.input[0])
    return node


def _of_two(makers: Mapping[str, Any], node: Any) -> Origin:
    """What makes p, where a Concat joins p and 1 - p."""
    if len(node.input) != 2:
        return NOWHERE
    first, second = node.input
    for value, other in ((first, second), (second, first)):
        maker, rest = _behind(makers, value), _behind(makers, other)
        if maker is not None and rest is not None and rest.op_type == "Sub" and rest.input[1] in (value, *maker.output):
            return Origin(_made(maker).by)
    return NOWHERE


def _made(node: Any) -> Origin:
    """What an operation makes by itself."""
    if node.op_type == "Softmax":
        return Origin("Softmax") if _setting(node, "axis", -1) != 0 else NOWHERE
    if node.op_type in ("Sigmoid", "HardSigmoid"):
        return Origin(node.op_type, apart=True)
    if node.op_type == "SVMClassifier" and _setting(node, "prob_a"):
        return Origin(node.op_type)
    after = _setting(node, "post_transform")
    if after not in ("SOFTMAX", "LOGISTIC"):
        return NOWHERE
    classes = max((len(_setting(node, name, ())) for name in LABELS), default=0)
    return Origin(node.op_type, apart=after == "LOGISTIC" and classes != 2)


def _setting(node: Any, name: str, default: Any = None) -> Any:
    """The value of an attribute of a node, texts as text."""
    from onnx import helper

    found = next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), default)
    return found.decode() if isinstance(found, bytes) else found
