"""What onnxruntime really runs: the operations of a graph after its own fusions on this machine."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnxruntime

from modelmill.runtime.session import options


def executed(graph: bytes) -> list[str]:
    """The types of the operations that onnxruntime runs in place of the graph's, in their order.

    Integers are computed in where QLinearConv, QGemm, MatMulIntegerToFloat, MatMulNBits and their like stand; a Conv, a
    Gemm or a MatMul computes in floats, whatever pairs stand around it.
    """
    with TemporaryDirectory() as folder:
        chosen = options()
        chosen.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        onnxruntime.InferenceSession(graph, chosen, providers=["CPUExecutionProvider"])
        return [node.op_type for node in onnx.load(chosen.optimized_model_filepath).graph.node]
