"""Static quantization: ranges of activations from sample rows, then onnxruntime's quantizer for U8S8 pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import HistogramCollector, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from modelmill.compress.convert.cleaning import clean
from modelmill.compress.quantize.graphs import FOLLOWERS, HEAVY, followers, heavy, load, named, quiet
from modelmill.compress.quantize.initializers import constants
from modelmill.compress.quantize.standins import fill, light
from modelmill.compress.quantize.stored import INTEGERS, IR_VERSION, upgrade
from modelmill.compress.quantize.tidy import DEQUANTIZE, QUANTIZE
from modelmill.contracts import Array
from modelmill.dataset import Dataset
from modelmill.errors import ModelError
from modelmill.graph.apart import saved
from modelmill.graph.scopes import graphs, order
from modelmill.graph.shapes import tell
from modelmill.runtime.calls import calls
from modelmill.runtime.memory import give_back
from modelmill.runtime.session import Session

BATCH = 128
SAMPLE = 65536
"""Numbers of an activation that are kept of a batch, where more than its ends are looked at."""
PERCENT = 0.01
"""What the percentile calibration leaves out at both ends of a range."""

Ranges = dict[str, tuple[Array, Array]]


def opened(graph: bytes, smallest: int, preprocess: bool = True) -> tuple[Any, list[str]] | None:
    """The model of a graph, ready to be quantized, and its nodes that are worth it; None where none is.

    preprocess: whether it is cleaned first, its batch norms fused.
    """
    model = load(graph)
    if not heavy(model, HEAVY, smallest):
        return None
    model = upgrade(model, INTEGERS, IR_VERSION)
    if preprocess:
        clean(model)
        named(model)
    tell(model)
    return model, heavy(model, HEAVY, smallest)


def chosen(model: Any, nodes: list[str]) -> list[str]:
    """Those nodes, and what may stay in integers between them."""
    return [*nodes, *followers(model, nodes)]


@dataclass(frozen=True, eq=False)
class Rounded:
    """A weight that was rounded before: its steps, one or one a channel, the axis of its channels, and its codes."""

    steps: Array
    axis: int
    codes: Array


def paired(
    model: Any,
    nodes: list[str],
    seen: Ranges,
    *,
    per_channel: bool,
    reduce_range: bool,
    rounded: Mapping[str, Rounded] | None = None,
) -> Any:
    """The model with pairs around the nodes, for ranges of the values between them.

    rounded: weights by name; of the others the steps follow the largest number.
    """
    given = {name: _overrides(one.steps, one.axis) for name, one in (rounded or {}).items()}
    with quiet(), refusals():
        quantizer = QDQQuantizer(
            light(model, nodes),
            per_channel,
            reduce_range,
            QuantType.QInt8,
            QuantType.QUInt8,
            TensorsData(CalibrationMethod.MinMax, dict(seen)),
            chosen(model, nodes),
            [],
            sorted(HEAVY | FOLLOWERS),
            {"QDQOpTypePerChannelSupportToAxis": {"MatMul": 1}, "TensorQuantOverrides": given},
        )
        quantizer.quantize_model()
    made = quantizer.model.model
    _let_inner_graphs_read(made)
    order(made.graph)
    fill(made, model, nodes, {name: one.codes for name, one in (rounded or {}).items()})
    return made


@contextmanager
def refusals() -> Iterator[None]:
    """What onnxruntime's quantizer cannot do, as a refusal."""
    try:
        yield
    except (ValueError, IndexError, KeyError, NotImplementedError) as error:
        hint = "Leave the step out, or take quantize.dynamic or quantize.blocks."
        raise ModelError("graph", f"its integers cannot be written: {error}", hint) from error


def _let_inner_graphs_read(model: Any) -> None:
    """Let branches and loops read what others read: the pair may stand for an activation that is no longer there."""
    rounded = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == QUANTIZE}
    pairs = {
        rounded[node.input[0]]: node.output[0]
        for node in model.graph.node
        if node.op_type == DEQUANTIZE and node.input[0] in rounded
    }
    for graph in graphs(model)[:-1]:
        for node in graph.node:
            node.input[:] = [pairs.get(name, name) for name in node.input]


def _overrides(steps: Array, axis: int) -> list[dict[str, Any]]:
    """Steps of a weight as the quantizer takes them."""
    zero = np.array(0, np.int8)
    each = [{"quant_type": QuantType.QInt8, "scale": np.float32(step), "zero_point": zero} for step in steps.ravel()]
    return [entry | {"axis": axis} for entry in each] if steps.ndim else each


def ranges(model: Any, nodes: list[str], dataset: Dataset, calibration: str) -> Ranges:
    """The lowest and the highest number that each value between the nodes takes, by the way it is calibrated."""
    names = values(model, nodes)
    collector = HistogramCollector("entropy", False, 128, 128, None, None) if calibration == "entropy" else None
    seen: dict[str, list[Array]] = {name: [] for name in names}
    for outputs in runs(model, names, dataset):
        if collector is not None:
            with quiet():
                collector.collect({name: [_sample(value)] for name, value in outputs.items()})
        for name, value in outputs.items():
            seen[name].append(_sample(value) if calibration == "percentile" else _ends(value))
    if collector is not None:
        with quiet():
            return {name: (found[0], found[1]) for name, found in collector.compute_collection_result().items()}
    cut = PERCENT if calibration == "percentile" else 0.0
    return {name: _range(np.concatenate(found), cut) for name, found in seen.items()}


def _range(numbers: Array, cut: float) -> tuple[Array, Array]:
    low, high = np.percentile(numbers, [cut, 100 - cut]) if cut else (numbers.min(), numbers.max())
    return np.array(low, np.float32), np.array(high, np.float32)


def _ends(value: Array) -> Array:
    return np.array([value.min(), value.max()])


def _sample(value: Array) -> Array:
    """Some of the numbers, evenly taken."""
    flat = value.ravel()
    return flat[:: max(1, len(flat) // SAMPLE)]


def values(model: Any, nodes: list[str]) -> list[str]:
    """The float values that flow into and out of nodes, without constants."""
    chosen, known = set(nodes), constants(model)
    flow = [name for node in model.graph.node if node.name in chosen for name in (*node.input, *node.output)]
    floats = {
        value.name
        for value in (*model.graph.value_info, *model.graph.input, *model.graph.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    return [name for name in dict.fromkeys(flow) if name in floats and name not in known]


def runs(model: Any, names: list[str], dataset: Dataset) -> Iterator[Mapping[str, Array]]:
    """Those inner values for the rows of a data set, some rows at a time."""
    with TemporaryDirectory() as folder:
        yield from asked(saved(model, names, Path(folder)), names, dataset)


def asked(path: Path, names: Sequence[str], dataset: Dataset) -> Iterator[Mapping[str, Array]]:
    """Some of the outputs of a file for the rows of a data set, some rows at a time; it is loaded while they come."""
    give_back()
    session = Session(path, lean=True)
    for columns in calls(session, dataset, BATCH):
        yield session.run(columns, names)
