"""A bare ASGI callable on uvicorn: the least that an HTTP service in Python costs. Usage: MODEL PORT."""

import sys

import numpy as np
import onnxruntime
import orjson
import uvicorn

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])


async def app(scope, receive, send):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    tensor = orjson.loads(body)["inputs"][0]
    x = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
    y = session.run(["y"], {"x": x})[0]
    answer = orjson.dumps(
        {"outputs": [{"name": "y", "shape": y.shape, "datatype": "FP32", "data": y.ravel()}]},
        option=orjson.OPT_SERIALIZE_NUMPY,
    )
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


uvicorn.run(app, port=int(sys.argv[2]), log_level="error", access_log=False, lifespan="off", ws="none")
