"""A plain servicer of grpc.aio, as its documentation has it. Usage: MODEL PORT GRPC_PORT."""

import asyncio
import sys

import grpc
import numpy as np
import onnxruntime
from tritonclient.grpc import service_pb2, service_pb2_grpc

MODEL, PORT, GRPC = sys.argv[1:4]


class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])

    async def ModelInfer(self, request, context):  # noqa: N802
        x = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(tuple(request.inputs[0].shape))
        y = self.session.run(["y"], {"x": x})[0]
        answer = service_pb2.ModelInferResponse(model_name="m", model_version="1")
        answer.outputs.add(name="y", datatype="FP32", shape=y.shape)
        answer.raw_output_contents.append(y.tobytes())
        return answer


async def main():
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(), server)
    server.add_insecure_port(f"127.0.0.1:{GRPC}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
