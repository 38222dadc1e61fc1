"""Ray Serve as its documentation has it: a deployment of one replica, behind its HTTP proxy. Usage: MODEL PORT."""

import os
import sys
from pathlib import Path

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}

import numpy as np
import onnxruntime
import ray
from ray import serve

QUIET = {"enable_access_log": False}


@serve.deployment(num_replicas=1, logging_config=QUIET)
class Onnx:
    def __init__(self, model):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    async def __call__(self, request):
        tensor = (await request.json())["inputs"][0]
        x = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
        y = self.session.run(["y"], {"x": x})[0]
        return {"outputs": [{"name": "y", "shape": list(y.shape), "datatype": "FP32", "data": y.ravel().tolist()}]}


if __name__ == "__main__":
    folder = str(Path.cwd() / "ray")
    ray.init("local", include_dashboard=False, _node_ip_address="127.0.0.1", _temp_dir=folder)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])}, logging_config=QUIET)
    serve.run(Onnx.bind(sys.argv[1]), blocking=True)
