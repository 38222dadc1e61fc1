"""TorchServe with a handler for ONNX, one worker, batches of 32 within 5 ms. Usage: MODEL PORT GRPC_PORT."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

MODEL, PORT, GRPC = sys.argv[1:4]

HANDLER = """
import json

import numpy as np
import onnxruntime


class Onnx:
    def initialize(self, context):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = context.system_properties["model_dir"] + "/MODEL_FILE"
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def handle(self, requests, context):
        rows = []
        for request in requests:
            body = request.get("body") or request.get("data")
            tensor = (json.loads(body) if isinstance(body, (bytes, bytearray, str)) else body)["inputs"][0]
            rows.append(np.array(tensor["data"], np.float32).reshape(tensor["shape"]))
        y = self.session.run(["y"], {"x": np.concatenate(rows)})[0]
        return [row.tolist() for row in y]


_service = Onnx()


def handle(data, context):
    if data is None:
        return None
    return _service.handle(data, context)
"""

folder = Path(tempfile.mkdtemp())
handler = HANDLER.replace("MODEL_FILE", Path(MODEL).name)
handler = handler.replace(
    "def handle(data, context):\n    if data is None:",
    "def initialize(context):\n    _service.initialize(context)\n\n\ndef handle(data, context):\n"
    "    if not hasattr(_service, 'session'):\n        _service.initialize(context)\n    if data is None:",
)
(folder / "handler.py").write_text(handler)
(folder / "store").mkdir()
tools = Path(sys.executable).parent
archiver = [str(tools / "torch-model-archiver"), "--model-name", "m", "--version", "1.0", "--extra-files", MODEL]
subprocess.run([*archiver, "--handler", "handler.py", "--export-path", "store"], check=True, cwd=folder)
model = '{"m": {"1.0": {"marName": "m.mar", "minWorkers": 1, "maxWorkers": 1, "batchSize": 32, "maxBatchDelay": 5}}}'
(folder / "config.properties").write_text(
    f"inference_address=http://127.0.0.1:{PORT}\nmanagement_address=http://127.0.0.1:{int(GRPC)}\n"
    f"metrics_address=http://127.0.0.1:0\ngrpc_inference_port=0\ngrpc_management_port=0\n"
    f"model_store={folder / 'store'}\nload_models=m.mar\nmodels={model}\ndisable_system_metrics=true\n"
)
os.environ["PATH"] = f"{tools}:{os.environ['PATH']}"
os.environ["TS_CONFIG_FILE"] = str(folder / "config.properties")
os.environ["LOG_LOCATION"] = os.environ["METRICS_LOCATION"] = str(folder)
os.chdir(folder)
command = [str(tools / "torchserve"), "--start", "--foreground", "--ncs", "--disable-token-auth"]
os.execv(command[0], [*command, "--ts-config", str(folder / "config.properties")])
