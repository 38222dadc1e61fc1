"""A service as one writes it by hand: FastAPI, pydantic, one session. Usage: MODEL PORT."""

import sys

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
app = FastAPI()


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list


class Request(BaseModel):
    inputs: list[Tensor]


@app.post("/v2/models/m/infer")
def infer(request: Request):
    tensor = request.inputs[0]
    y = session.run(["y"], {"x": np.array(tensor.data, np.float32).reshape(tensor.shape)})[0]
    return {"outputs": [{"name": "y", "shape": list(y.shape), "datatype": "FP32", "data": y.ravel().tolist()}]}


uvicorn.run(app, port=int(sys.argv[2]), log_level="error", access_log=False)
