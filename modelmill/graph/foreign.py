"""Takes in what other exporters write: torch.onnx for modules, skl2onnx for estimators, as operations of our graph."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from modelmill.errors import MissingExtra, ModelError
from modelmill.fragment import ML, Writer
from modelmill.graph.build import ML_OPSET, OPSET


def estimator(fitted: Any, value: str, writer: Writer, width: int) -> tuple[str, str]:
    """Write a fitted scikit-learn estimator by way of skl2onnx; the raw output's name, and its form."""
    try:
        import skl2onnx
        from skl2onnx.common.data_types import FloatTensorType
    except ModuleNotFoundError as error:
        raise MissingExtra.of("graph.foreign", "skl2onnx", "mill") from error
    if width and not hasattr(fitted, "predict_proba"):
        raise ModelError("graph.foreign", f"{type(fitted).__name__} gives no probabilities", "Calibrate it.")
    name = type(fitted).__name__
    try:
        with _plain_attributes():
            proto = skl2onnx.convert_sklearn(
                fitted,
                initial_types=[("x", FloatTensorType([None, fitted.n_features_in_]))],
                options={id(fitted): {"zipmap": False}} if width else None,
                target_opset={"": OPSET, ML: ML_OPSET},
            )
    except (RuntimeError, AttributeError, TypeError, ValueError, NameError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError("graph.foreign", f"skl2onnx cannot convert {name}: {reason}", "Try another arch.") from error
    made = inline(proto, {"x": value}, writer)
    return (made[1], "probabilities") if width else (made[0], "value")


@contextmanager
def _plain_attributes() -> Iterator[None]:
    """Let numpy scalars and booleans be attributes: onnx 1.23 refuses what skl2onnx 1.20 gives it."""
    from onnx import helper

    real = helper.make_attribute

    def make(key: str, value: Any, *rest: Any, **named: Any) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        elif isinstance(value, np.ndarray):
            value = value.tolist()
        if isinstance(value, list | tuple):
            value = [int(v) if isinstance(v, bool | np.bool_) else v for v in value]
        return real(key, value, *rest, **named)

    helper.make_attribute = make
    try:
        yield
    finally:
        helper.make_attribute = real


def network(module: Any, value: str, features: tuple[int, ...], writer: Writer) -> str:
    """Write any torch module by way of torch.onnx, which takes over a second; the raw output's name.

    features: the shape of a row's features.
    """
    proto = trace(module, features)
    return inline(proto, {proto.graph.input[0].name: value}, writer)[0]


def trace(module: Any, features: tuple[int, ...]) -> Any:
    """The ONNX model that torch.onnx makes of a module in evaluation, with a free first axis."""
    import copy

    import torch

    still = copy.deepcopy(module).eval()
    try:
        with _quiet():
            program = torch.onnx.export(
                still,
                (torch.zeros(2, *features),),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=({0: torch.export.Dim.AUTO},),
                external_data=False,
                verbose=False,
            )
    except ImportError as error:
        raise MissingExtra.of("graph.foreign", "onnxscript", "mill") from error
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError("graph.foreign", f"torch.onnx cannot export the module: {reason}", "See its docs.") from error
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """torch 2.13 warns of its own inner calls, and logs that torchvision is not there."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def inline(proto: Any, names: Mapping[str, str], writer: Writer) -> list[str]:
    """Write another graph's operations into ours; the names that its outputs have there.

    names: for each input of the other graph, the value of ours that it reads.
    """
    import onnx

    _check_versions(proto)
    ours = dict(names)
    for initializer in proto.graph.initializer:
        ours[initializer.name] = writer.constant(_array(initializer))
    for node in _nodes(proto):
        attributes = {a.name: _attribute(onnx.helper.get_attribute_value(a), node) for a in node.attribute}
        inputs = [ours[name] if name else "" for name in node.input]
        made = writer.ops(
            node.op_type, inputs, len(node.output), attributes, domain=node.domain.replace("ai.onnx.ml", ML)
        )
        ours.update(zip(node.output, made, strict=True))
    return [ours[output.name] for output in proto.graph.output]


def _nodes(proto: Any) -> list[Any]:
    """The nodes with Constants and model-local functions resolved."""
    from onnx.inliner import inline_local_functions

    if proto.functions:
        proto = inline_local_functions(proto)
    return list(proto.graph.node)


def _array(initializer: Any) -> Any:
    import onnx

    array = onnx.numpy_helper.to_array(initializer)
    if array.dtype == object:
        return np.array([v.decode() if isinstance(v, bytes) else v for v in array.ravel()], object).reshape(array.shape)
    return array


def _attribute(value: Any, node: Any) -> Any:
    """An attribute's value; a graph within is taken if it reads nothing from the graph around it."""
    import onnx

    graphs = [value] if isinstance(value, onnx.GraphProto) else []
    if any(_reads_outside(graph) for graph in graphs):
        raise ModelError("graph.foreign", f"a graph within {node.op_type} reads from outside", "Flatten the model.")
    return value


def _reads_outside(graph: Any) -> bool:
    known = {"", *(v.name for v in graph.input), *(t.name for t in graph.initializer)}
    for node in graph.node:
        if any(a.HasField("g") for a in node.attribute) or not known.issuperset(node.input):
            return True
        known.update(node.output)
    return not known.issuperset(v.name for v in graph.output)


def _check_versions(proto: Any) -> None:
    for opset in proto.opset_import:
        ours = {"": OPSET, "ai.onnx": OPSET, ML: ML_OPSET}.get(opset.domain)
        if ours is not None and opset.version > ours:
            raise ModelError("graph.foreign", f"operators {opset.domain or 'ai.onnx'} {opset.version}", f"Use {ours}.")
