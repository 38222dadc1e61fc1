"""MLServer with a runtime of its own, as its documentation has it. Usage: MODEL PORT GRPC_PORT."""

import json
import os
import sys
import tempfile
from pathlib import Path

MODEL, PORT, GRPC = sys.argv[1:4]

RUNTIME = """
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Onnx(MLModel):
    async def load(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            self.settings.parameters.uri, options, providers=["CPUExecutionProvider"]
        )
        return True

    async def predict(self, payload):
        x = NumpyCodec.decode_input(payload.inputs[0])
        y = self.session.run(["y"], {"x": x})[0]
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", y)])
"""

folder = Path(tempfile.mkdtemp())
(folder / "onnx_runtime.py").write_text(RUNTIME)
parameters = {"name": "m", "implementation": "onnx_runtime.Onnx", "parameters": {"uri": MODEL}}
(folder / "model-settings.json").write_text(json.dumps({**parameters, "max_batch_size": 32, "max_batch_time": 0.005}))
settings = {"http_port": int(PORT), "grpc_port": int(GRPC), "metrics_port": 0, "parallel_workers": 0, "debug": False}
(folder / "settings.json").write_text(json.dumps({**settings, "host": "127.0.0.1", "metrics_endpoint": None}))
os.environ["PYTHONPATH"] = str(folder)
os.chdir(folder)
command = str(Path(sys.executable).with_name("mlserver"))
os.execv(command, [command, "start", str(folder)])
