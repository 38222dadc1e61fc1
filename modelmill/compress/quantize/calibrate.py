"""Static quantization by onnxruntime's own tool: U8 activations, S8 weights, as pairs of Quantize and Dequantize."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from modelmill.compress.quantize.graphs import FOLLOWERS, HEAVY, followers, heavy, load, quiet
from modelmill.compress.quantize.tidy import tidy
from modelmill.contracts import Array
from modelmill.dataset import Dataset
from modelmill.runtime.rows import from_dataset

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
BATCH = 128


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds raw rows, a batch at a time, to onnxruntime's calibration."""

    def __init__(self, dataset: Dataset) -> None:
        self._batches = batches(dataset)

    def get_next(self) -> Mapping[str, Array] | None:
        """The next batch; None when all were given."""
        return next(self._batches, None)


def batches(dataset: Dataset) -> Iterator[Mapping[str, Array]]:
    """The inputs of the graph, some rows at a time."""
    for start in range(0, dataset.rows, BATCH):
        yield from_dataset(dataset.take(np.arange(start, min(start + BATCH, dataset.rows))))


def static(
    graph: bytes,
    dataset: Dataset,
    *,
    calibration: str,
    per_channel: bool,
    reduce_range: bool,
    smallest: int,
    preprocess: bool,
) -> tuple[bytes, int] | None:
    """The quantized graph and how many nodes work in integers; None where no node is worth it."""
    model = load(graph)
    if not heavy(model, HEAVY, smallest):
        return None
    with quiet(), TemporaryDirectory() as folder:
        model = prepared(model, Path(folder), preprocess)
        nodes = heavy(model, HEAVY, smallest)
        path = Path(folder) / "quantized.onnx"
        quantize_static(
            model,
            path,
            Reader(dataset),
            op_types_to_quantize=sorted(HEAVY | FOLLOWERS),
            nodes_to_quantize=[*nodes, *followers(model, nodes)],
            per_channel=per_channel,
            reduce_range=reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=METHODS[calibration],
            extra_options={"QDQOpTypePerChannelSupportToAxis": {"MatMul": 1}},
        )
        return tidy(onnx.load(path)), len(nodes)


def prepared(model: Any, folder: Path, preprocess: bool) -> Any:
    """The model with the shapes of its inner values and, where it has batch norms and `preprocess`, without those."""
    if preprocess and any(node.op_type == "BatchNormalization" for node in model.graph.node):
        path = folder / "prepared.onnx"
        quant_pre_process(model, path, skip_symbolic_shape=True)
        model = load(path.read_bytes())
    model = onnx.shape_inference.infer_shapes(model)
    del model.metadata_props[:]
    model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    return model
