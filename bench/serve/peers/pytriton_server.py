"""Triton's server with the model as a Python function, as PyTriton has it. Usage: MODEL PORT GRPC_PORT."""

import sys

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

MODEL, PORT, GRPC = sys.argv[1:4]


def main():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
    (x,), (y,) = session.get_inputs(), session.get_outputs()

    @batch
    def infer(x):
        return session.run(["y"], {"x": x})

    config = TritonConfig(http_port=int(PORT), grpc_port=int(GRPC), allow_metrics=False, log_verbose=0)
    with Triton(config=config) as triton:
        triton.bind(
            model_name="m",
            infer_func=infer,
            inputs=[Tensor(name="x", dtype=np.float32, shape=tuple(x.shape[1:]))],
            outputs=[Tensor(name="y", dtype=np.float32, shape=tuple(y.shape[1:]))],
            config=ModelConfig(max_batch_size=64),
        )
        triton.serve()


if __name__ == "__main__":
    main()
