"""LitServe as its documentation has it. Usage: MODEL PORT."""

import sys

import litserve
import numpy as np
import onnxruntime

MODEL = sys.argv[1]


class Api(litserve.LitAPI):
    def setup(self, device):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])

    def decode_request(self, request):
        tensor = request["inputs"][0]
        return np.array(tensor["data"], np.float32).reshape(tensor["shape"])

    def predict(self, x):
        return self.session.run(["y"], {"x": x})[0]

    def encode_response(self, y):
        return {"outputs": [{"name": "y", "shape": list(y.shape), "datatype": "FP32", "data": y.ravel().tolist()}]}


if __name__ == "__main__":
    server = litserve.LitServer(Api(api_path="/v2/models/m/infer"), accelerator="cpu")
    server.run(port=int(sys.argv[2]), log_level="error", generate_client_file=False)
