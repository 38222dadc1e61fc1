"""KServe's SDK as its documentation has it, REST and gRPC. Usage: MODEL PORT GRPC_PORT."""

import sys

import kserve
import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, Model

MODEL, PORT, GRPC = sys.argv[1:4]


class Onnx(Model):
    def __init__(self):
        super().__init__("m")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
        self.ready = True

    def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:
        y = self.session.run(["y"], {"x": payload.inputs[0].as_numpy()})[0]
        out = InferOutput("y", list(y.shape), "FP32", data=y.ravel().tolist())
        return InferResponse(response_id=payload.id or "0", model_name="m", infer_outputs=[out])


if __name__ == "__main__":
    server = kserve.ModelServer(
        http_port=int(PORT), grpc_port=int(GRPC), workers=1, enable_grpc=True, access_log_format=None
    )
    server.start([Onnx()])
