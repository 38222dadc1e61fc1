"""A small server of the protocol that is right, and that can be told to be wrong in one way at a time."""

from __future__ import annotations

import math

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

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
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
        text = b"<html>" if self.fault == "metadata as HTML" and document is MODEL else orjson.dumps(document)
        kind = b"text/plain" if self.fault == "JSON as text" else b"application/json"
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
        await send({"type": "http.response.body", "body": text})

    def answer(self, method, path, body):
        """The document for a request."""
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
            if len(rest) < 2 or self.fault == "no versions in paths" or rest[1] != "1":
                raise Refused("no such version", 404)
            rest = rest[2:]
        if rest == [] and method == "GET":
            return self.metadata()
        if rest == ["ready"] and method == "GET":
            return {"name": name, "ready": True}
        if rest == ["infer"]:
            if method != "POST":
                raise Refused("POST alone", 405)
            return self.infer(body)
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
            return {**MODEL, "outputs": [{**MODEL["outputs"][0], "datatype": "float32"}, MODEL["outputs"][1]]}
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
        sums[1:] = [] if self.fault == "one row of many" else sums[1:]
        outputs = [
            {"name": "sum", "datatype": "FP32", "shape": [len(sums)], "data": sums},
            {"name": "text", "datatype": "BYTES", "shape": [rows], "data": ["zero"] * rows},
        ]
        if self.fault == "elements are texts":
            outputs[0]["data"] = [str(value) for value in sums]
        if self.fault == "shape without the batch":
            outputs[0]["shape"] = []
        if self.fault == "outputs as float64":
            outputs[0]["datatype"] = "FP64"
        outputs = self.wanted(request, outputs)
        document = {"model_name": "add", "model_version": "1", "id": request.get("id", ""), "outputs": outputs}
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
        check(self.fault == "unknown outputs" or set(names) <= {"sum", "text"}, "output")
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
            if self.fault != "lengths are not looked at":
                check(len(data) == math.prod(shape), "length")
            check(all(type(value) in (int, float) for value in data), "element")
            columns[name] = data
        check(len(columns) == 2, "an input is missing")
        return columns


def check(holds, words):
    """Refuse a request, unless it holds."""
    if not holds:
        raise Refused(words)
