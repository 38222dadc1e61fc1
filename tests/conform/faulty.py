"""A small server of the protocol that is right, and that can be told to be wrong in one way at a time."""

from __future__ import annotations

import math
import struct

import numpy as np
import orjson

MODEL = {
    "name": "add",
    "versions": ["1"],
    "platform": "python_python",
    "inputs": [
        {"name": "a", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "b", "datatype": "INT64", "shape": [-1]},
    ],
    "outputs": [
        {"name": "sum", "datatype": "FP32", "shape": [-1]},
        {"name": "text", "datatype": "BYTES", "shape": [-1]},
        {"name": "scores", "datatype": "FP32", "shape": [-1, 3]},
    ],
}


class Refused(Exception):
    """A request that is wrong, with its status."""

    def __init__(self, words, status=400):
        super().__init__(words)
        self.status = status


class Faulty:
    """The ASGI callable; `fault` names what is wrong with it now."""

    def __init__(self):
        self.fault = ""
        self.headers = {}
        self.asked = 0

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        tail = b""
        try:
            status, document = 200, self.answer(scope["method"], scope["path"], body)
        except Refused as error:
            status, document = error.status, {"error": str(error)}
            if self.fault == "errors as text":
                document = {"detail": str(error)}
            if self.fault == "client errors as 500" and status == 400:
                status = 500
            if self.fault == "unknown is 400" and status == 404:
                status = 400
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
            status, document = 500, {"error": "internal"}
        if isinstance(document, tuple):
            document, tail = document
        text = b"<html>" if self.fault == "metadata as HTML" and document is MODEL else orjson.dumps(document)
        headers = [(b"content-type", self.kind(scope["path"], tail))]
        if tail:
            headers.append((b"inference-header-content-length", str(len(text)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text + tail})

    def kind(self, path, tail):
        """The content type of an answer."""
        if tail:
            return b"text/plain" if self.fault == "bytes as text" else b"application/octet-stream"
        if self.fault == "answers as HTML" and path.endswith("infer"):
            return b"text/html"
        return b"text/plain" if self.fault == "JSON as text" and not path.endswith("infer") else b"application/json"

    def answer(self, method, path, body):
        """The document for a request."""
        if self.fault == "wants a key" and self.headers.get("authorization") != "Bearer secret":
            raise Refused("who is there", 401)
        parts = path.strip("/").split("/")
        gets = {
            "v2": self.server(),
            "v2/health/live": {} if self.fault == "no live body" else {"live": True},
            "v2/health/ready": {"live": True, "ready": True},
        }
        if method == "GET" and path.strip("/") in gets:
            if self.fault == "no live" and parts[-1] == "live":
                raise Refused("not here", 404)
            return gets[path.strip("/")]
        if (method, path.strip("/")) == ("POST", "v2/repository/index"):
            return [{"name": "add", "version": "1", "state": "READY", "reason": ""}]
        if parts[:2] != ["v2", "models"] or len(parts) < 3:
            raise Refused("no such path", 404)
        name, rest = parts[2], parts[3:]
        if name != "add":
            if self.fault == "every model is ready" and rest == ["ready"]:
                return {"name": name, "ready": True}
            raise Refused("no such model", 404)
        if rest[:1] == ["versions"]:
            known = rest[1:2] == ["1"] or (self.fault == "metadata of any version" and len(rest) == 2)
            if self.fault == "no versions in paths" or not known:
                raise Refused("no such version", 404)
            rest = rest[2:]
        if rest == [] and method == "GET":
            return self.metadata()
        if rest == ["ready"] and method == "GET":
            return {"name": name, "ready": True}
        if rest == ["infer"]:
            if method != "POST":
                raise Refused("POST alone", 405)
            document = self.infer(body)
            if self.fault == "no id with a version" and "versions" in parts:
                del document["id"]
            return document
        raise Refused("no such path", 404)

    def server(self):
        extensions = None if self.fault == "extensions are null" else []
        if self.fault == "lists what it has not":
            extensions = ["statistics"]
        return {"name": "faulty", "version": "1", "extensions": extensions}

    def metadata(self):
        if self.fault == "no platform":
            return {key: value for key, value in MODEL.items() if key != "platform"}
        if self.fault == "versions are numbers":
            return {**MODEL, "versions": [1]}
        if self.fault == "datatype of its own":
            return {**MODEL, "outputs": [{**MODEL["outputs"][0], "datatype": "float32"}, *MODEL["outputs"][1:]]}
        return MODEL

    def infer(self, body):
        try:
            request = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            if self.fault == "NaN is taken" and b"NaN" in body:
                request = orjson.loads(body.replace(b"NaN", b"0"))
            else:
                raise Refused("no JSON", 500 if self.fault == "no JSON is 500" else 400) from error
        if not isinstance(request, dict) or not isinstance(request.get("inputs"), list):
            raise Refused("no inputs")
        if self.fault == "parameters are refused" and "parameters" in request:
            raise Refused("no parameters")
        check(isinstance(request.get("parameters", {}), dict), "parameters")
        check(not any(isinstance(v, dict | list) for v in request.get("parameters", {}).values()), "parameter")
        check(isinstance(request.get("id", ""), str), "id")
        columns = self.columns(request["inputs"])
        rows = len(columns["b"])
        sums = [columns["a"][2 * i] + columns["a"][2 * i + 1] + columns["b"][i] for i in range(rows)]
        scores = [v for i in range(rows) for v in (*columns["a"][2 * i : 2 * i + 2], columns["b"][i])]
        if self.fault == "the first row again":
            scores, sums = scores[:3] * rows, sums[:1] * rows
        if self.fault == "other answers each time":
            self.asked += 1
            sums = [value + self.asked for value in sums]
        if self.fault == "answers that say nothing":
            scores, sums = [1.5] * len(scores), [2.5] * rows
        sums[1:] = [] if self.fault in ("one row of many", "one answer for all rows") else sums[1:]
        outputs = [
            {"name": "sum", "datatype": "FP32", "shape": [len(sums)], "data": sums},
            {"name": "text", "datatype": "BYTES", "shape": [rows], "data": ["zero"] * rows},
            {"name": "scores", "datatype": "FP32", "shape": [rows, 3], "data": scores},
        ]
        if self.fault == "elements are texts":
            outputs[0]["data"] = [str(value) for value in sums]
        if self.fault == "shape without the batch":
            outputs[0]["shape"] = []
        if self.fault == "outputs as float64":
            outputs[0]["datatype"] = "FP64"
        outputs = self.wanted(request, outputs)
        document = {"model_name": "add", "model_version": "1", "id": request.get("id", ""), "outputs": outputs}
        if self.fault == "an id that is a number":
            document["id"] = request.get("id", 7)
        if self.fault == "an id of its own":
            document["id"] = request.get("id", "of its own")
        if self.fault == "parameters are a list":
            document["parameters"] = [1]
        if self.fault == "parameters of an output nest":
            outputs[0]["parameters"] = {"a": {"b": 1}}
        if self.fault == "lists of another shape":
            outputs[-1]["data"] = [[value] for value in outputs[-1]["data"]]
        if self.fault == "no id":
            del document["id"]
        if self.fault == "no model_name":
            del document["model_name"]
        if self.fault == "model_version is a number":
            document["model_version"] = 1
        return document

    def wanted(self, request, outputs):
        """The outputs that are asked for."""
        asked = request.get("outputs")
        if asked is None:
            return outputs[:1] if self.fault == "one output" else outputs
        check(isinstance(asked, list), "outputs")
        names = [each["name"] for each in asked]
        check(self.fault == "unknown outputs" or set(names) <= {"sum", "text", "scores"}, "output")
        return outputs if self.fault == "all outputs" else [each for each in outputs if each["name"] in names]

    def columns(self, inputs):
        """The elements of the inputs by name."""
        columns = {}
        for place, tensor in enumerate(inputs):
            check(isinstance(tensor, dict), "an input is an object")
            name = ("a", "b")[place % 2] if self.fault == "inputs by place" else tensor.get("name")
            known = {each["name"]: each for each in MODEL["inputs"]}
            check(isinstance(name, str) and name in known, "no such input")
            check(name not in columns, "twice")
            check(tensor.get("datatype") == known[name]["datatype"], "datatype")
            shape, data = tensor.get("shape"), tensor.get("data")
            check(isinstance(shape, list) and all(type(size) is int and size > 0 for size in shape), "shape")
            check(len(shape) == len(known[name]["shape"]), "rank")
            check(name == "b" or shape[1] == 2, "columns")
            check(isinstance(data, list), "data")
            if any(isinstance(row, list) for row in data):
                check(self.fault != "no nested data", "nested")
                check(len(data) == shape[0] and all(type(r) is list and len(r) == shape[1] for r in data), "ragged")
                data = [value for row in data for value in row]
                if self.fault == "nested columns first":
                    data = transposed(data, shape)
            elif self.fault == "columns first" and name == "a":
                data = transposed(data, shape)
            if self.fault != "lengths are not looked at":
                check(len(data) == math.prod(shape), "length")
            check(all(type(value) in (int, float) for value in data), "element")
            whole = self.fault == "whole numbers are zeros" and name == "b"
            check(not (whole or self.fault == "zeros alone") or not any(data), "zeros")
            columns[name] = data
        check(len(columns) == 2, "an input is missing")
        return columns


class Offering(Faulty):
    """The same server with extensions: tensors as bytes, classes, statistics."""

    def __init__(self):
        super().__init__()
        self.rows = self.done = 0

    def server(self):
        return {**super().server(), "extensions": ["binary_tensor_data", "classification", "statistics"]}

    def answer(self, method, path, body):
        if path.endswith("/config") and self.fault == "one answer for all rows":
            return {"name": "add", "max_batch_size": 0}
        if path.endswith("/stats"):
            return {"model_stats": [self.statistics()]}
        return super().answer(method, path, body)

    def statistics(self):
        duration = {"count": self.done, "ns": self.done}
        none = {"count": 0, "ns": 0}
        kinds = ("fail", "queue", "compute_input", "compute_infer", "compute_output")
        others = {} if self.fault == "success alone" else dict.fromkeys(kinds, none)
        rows = {"no inferences": 0, "inferences are requests": self.done}.get(self.fault, self.rows)
        counts = {"last_inference": 0, "inference_count": rows, "execution_count": self.done}
        return {"name": "add", "version": "1", **counts, "inference_stats": {"success": duration, **others}}

    def infer(self, body):
        length, tail = self.headers.get("inference-header-content-length"), b""
        if length is not None:
            check(length.isdigit() and int(length) <= len(body), "length")
            body, tail = body[: int(length)], body[int(length) :]
        try:
            request = orjson.loads(body)
            at = 0
            for tensor in request["inputs"]:
                size = tensor.get("parameters", {}).get("binary_data_size")
                if size is not None:
                    tensor["data"] = self.numbers(tensor["datatype"], tail[at : at + size])
                    at += size
            check(at == len(tail), "bytes")
            body = orjson.dumps(request)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            check(not tail, "bytes")
        document = super().infer(body)
        request = orjson.loads(body)
        self.done += 1
        self.rows += request["inputs"][0]["shape"][0]
        return self.formed(document, request)

    def numbers(self, datatype, data):
        order = ">" if self.fault == "big-endian" else "<"
        check(len(data) % {"FP32": 4, "INT64": 8}[datatype] == 0, "bytes")
        return np.frombuffer(data, order + {"FP32": "f4", "INT64": "i8"}[datatype]).tolist()

    def formed(self, document, request):
        """An answer with its outputs in the forms that are asked for."""
        tail, everything = b"", request.get("parameters", {}).get("binary_data_output", False)
        asked = {each["name"]: each.get("parameters", {}) for each in request.get("outputs", [])}
        for tensor in document["outputs"]:
            wishes = asked.get(tensor["name"], {})
            if wishes.get("classification"):
                self.classify(tensor, wishes["classification"])
            elif wishes.get("binary_data", everything):
                data = tensor.pop("data")
                packed = b"".join(struct.pack("<I", len(text)) + text.encode() for text in data if type(text) is str)
                packed = packed or np.array(data, "<f4").tobytes()
                tensor["parameters"] = {"binary_data_size": len(packed)}
                tail += packed
        return (document, tail) if tail else document

    def classify(self, tensor, count):
        rows = np.array(tensor["data"]).reshape(tensor["shape"][0], -1)
        best = np.argsort(rows if self.fault == "the worst classes" else -rows, axis=1)
        best = best[:, : 1 if self.fault == "one class" else count]
        values = rows[:, ::-1] if self.fault == "scores of others" else rows
        texts = [f"{values[row, place]:f}:{place}" for row, places in enumerate(best) for place in places]
        tensor.update(datatype="BYTES", shape=list(best.shape), data=texts)


def transposed(data, shape):
    """Flat data as if they had been sent column by column."""
    rows, columns = shape
    return [data[column * rows + row] for row in range(rows) for column in range(columns)]


def check(holds, words):
    """Refuse a request, unless it holds."""
    if not holds:
        raise Refused(words)
