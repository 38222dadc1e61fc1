"""The gRPC port of the server in faulty.py, which can be told to be wrong in ways of its own."""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np
import orjson

from modelmill.protocol.schema import schema

PACKAGE = "/inference.GRPCInferenceService/"
HEALTH = "/grpc.health.v1.Health/Check"
TYPES = {"FP32": "<f4", "INT64": "<i8"}
TYPED = {"FP32": "fp32_contents", "INT64": "int64_contents"}


class Refused(Exception):
    """A call that is wrong, with its code."""


class Port:
    """The methods over an app of faulty.py."""

    def __init__(self, app):
        self.app = app
        self.model = app.metadata()

    def service(self, details):
        """The handler of a path, as grpcio wants it."""
        path = details.method
        name = path.rpartition("/")[2]
        if path == f"{PACKAGE}ModelStreamInfer" and self.app.fault != "no stream":
            return grpc.stream_stream_rpc_method_handler(self.stream)
        method = getattr(self, name, None) if path.startswith(PACKAGE) or path == HEALTH else None
        if method is None or (path == HEALTH and self.app.fault == "no health"):
            return None
        known = schema().methods[path]

        def call(message, context):
            try:
                return schema().encode(known.response, method(schema().decode(known.request, message)))
            except Refused as error:
                context.abort(error.args[0], "no")

        return grpc.unary_unary_rpc_method_handler(call)

    def stream(self, messages, context):
        first = None
        for message in messages:
            answer = self.ModelInfer(schema().decode("inference.ModelInferRequest", message))
            first = first or answer
            if self.app.fault == "a stream says one thing":
                answer = {**first, "id": answer["id"]}
            if self.app.fault == "a bare stream":
                yield schema().encode("inference.ModelInferResponse", answer)
            else:
                yield schema().encode("inference.ModelStreamInferResponse", {"infer_response": answer})

    def Check(self, request):  # noqa: N802
        if request.get("service"):
            raise Refused(grpc.StatusCode.NOT_FOUND)
        return {"status": "NOT_SERVING" if self.app.fault == "never serves" else "SERVING"}

    def ServerLive(self, request):  # noqa: N802
        return {"live": True}

    def ServerReady(self, request):  # noqa: N802
        return {"ready": True}

    def ServerMetadata(self, request):  # noqa: N802
        return self.app.server()

    def ModelReady(self, request):  # noqa: N802
        return {"ready": request.get("name") == "add"}

    def ModelMetadata(self, request):  # noqa: N802
        self.known(request.get("name"))
        return self.model

    def ModelStatistics(self, request):  # noqa: N802
        found = self.app.statistics()
        if self.app.fault == "figures stand still":
            found = {**found, "inference_count": 0}
        return {"model_stats": [found]}

    def ModelConfig(self, request):  # noqa: N802
        kinds = {"FP32": "TYPE_FP32", "INT64": "TYPE_INT64", "BYTES": "TYPE_STRING"}
        if self.app.fault == "a configuration without types":
            kinds = dict.fromkeys(kinds, "TYPE_INVALID")
        sides = {
            side: [{"name": each["name"], "data_type": kinds[each["datatype"]]} for each in self.model[f"{side}s"]]
            for side in ("input", "output")
        }
        return {"config": {"name": "add", **sides}}

    def RepositoryIndex(self, request):  # noqa: N802
        return {"models": [{"name": "other" if self.app.fault == "an index of others" else "add"}]}

    def RepositoryModelLoad(self, request):  # noqa: N802
        if self.app.fault != "loads what is not there":
            raise Refused(grpc.StatusCode.NOT_FOUND)
        return {}

    def known(self, name):
        if name != "add":
            raise Refused(grpc.StatusCode.NOT_FOUND)

    def ModelInfer(self, request):  # noqa: N802
        self.known(request.get("model_name"))
        priority = request.get("parameters", {}).get("priority", {})
        if "string_param" in priority and self.app.fault != "takes any priority":
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT)
        raw = request.get("raw_input_contents")
        inputs = []
        for place, tensor in enumerate(request["inputs"]):
            data = tensor.get("contents", {}).get(TYPED[tensor["datatype"]])
            if raw:
                order = TYPES[tensor["datatype"]].replace("<", ">" if self.app.fault == "raw is big-endian" else "<")
                data = np.frombuffer(raw[place], order)
            known = {"name": tensor["name"], "datatype": tensor["datatype"], "shape": list(map(int, tensor["shape"]))}
            inputs.append({**known, "data": data.tolist()})
        outputs = [
            {"name": each["name"], "parameters": {k: next(iter(v.values())) for k, v in each["parameters"].items()}}
            if "parameters" in each
            else {"name": each["name"]}
            for each in request.get("outputs", [])
        ]
        asked = {"id": request.get("id", ""), "inputs": inputs, **({"outputs": outputs} if outputs else {})}
        self.app.headers = {}
        found = self.app.answer("POST", "/v2/models/add/infer", orjson.dumps(asked))
        pieces = [packed(tensor) for tensor in found["outputs"]]
        listed = [{key: tensor[key] for key in ("name", "datatype", "shape")} for tensor in found["outputs"]]
        if self.app.fault == "the worst classes over gRPC" and listed[0]["datatype"] == "BYTES":
            pieces = [packed({"datatype": "BYTES", "data": ["0:0"] * len(found["outputs"][0]["data"])})]
        answer = {**found, "outputs": listed, "raw_output_contents": pieces}
        if self.app.fault == "a parameter of two types":
            answer["parameters"] = {"a": {"bool_param": True, "int64_param": 1}}
        return answer


def packed(tensor):
    if tensor["datatype"] == "BYTES":
        return b"".join(struct.pack("<I", len(text)) + text.encode() for text in tensor["data"])
    return np.array(tensor["data"], "<f4").tobytes()


@contextmanager
def listening(app):
    """HOST:PORT of a gRPC server over an app."""
    server = grpc.server(ThreadPoolExecutor(4), handlers=(Handler(Port(app)),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


class Handler(grpc.GenericRpcHandler):
    """Every path by its port."""

    def __init__(self, port):
        self.port = port

    def service(self, details):
        return self.port.service(details)
