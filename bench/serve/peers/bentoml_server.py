"""BentoML's service as its documentation has it, or one that batches. Usage: MODEL PORT GRPC_PORT [batch]."""

import os
import sys
from pathlib import Path
from typing import Annotated

import bentoml
import numpy as np
import onnxruntime
from bentoml.validators import DType

QUIET = {"access": {"enabled": False}}


def opened():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])


@bentoml.service(logging=QUIET)
class Onnx:
    def __init__(self):
        self.session = opened()

    @bentoml.api(route="/v2/models/m/infer")
    def infer(self, x: Annotated[np.ndarray, DType("float32")]) -> np.ndarray:
        return self.session.run(["y"], {"x": x})[0]


@bentoml.service(logging=QUIET)
class Batched:
    def __init__(self):
        self.session = opened()

    @bentoml.api(route="/v2/models/m/infer", batchable=True)
    def infer(self, x: Annotated[np.ndarray, DType("float32")]) -> np.ndarray:
        return self.session.run(["y"], {"x": x})[0]


if __name__ == "__main__":
    model, port, _, *ways = sys.argv[1:]
    os.environ |= {"MODEL": model, "BENTOML_HOME": str(Path.cwd() / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
    command = str(Path(sys.executable).with_name("bentoml"))
    service = f"bentoml_server:{'Batched' if ways else 'Onnx'}"
    folder = str(Path(__file__).parent)
    os.execv(command, [command, "serve", service, "--working-dir", folder, "--host", "127.0.0.1", "--port", port])
