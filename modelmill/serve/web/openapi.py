"""The OpenAPI 3.1 document of the service: every path, and for every served model what its rows look like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelmill.release import __version__
from modelmill.serve import views
from modelmill.serve.access.needs import need
from modelmill.serve.web.schemas import ROLLOUT, ROUTE, SCHEMAS, TEXT, Table, reference
from modelmill.signature import Field, Signature
from modelmill.version import Version

NAME: Table = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "description": "NAME, NAME@3 or NAME@alias",
}
NUMBER: Table = {"name": "version", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 1}}
RUN: Table = {"name": "id", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 1}}
SINCE: Table = {
    "name": "since",
    "in": "query",
    "schema": {"type": "integer", "minimum": 0},
    "description": "rows after this number; the newest without it",
}
LIMIT: Table = {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000}}
REASONS = {
    "400": "The request is malformed; the error says what came and what was wanted",
    "401": "A key is wanted; WWW-Authenticate says how it is sent",
    "403": "The key is not good for that, or a page of another site sent the request",
    "404": "No such model or version is served",
    "405": "The path takes another method",
    "409": "Something else is on its way, or set; the error says what",
    "408": "The body did not come in time",
    "413": "The body is too large",
    "415": "The body is packed in a way, or of a type, that is not taken",
    "429": "Too many requests wait, or the key's quota is used up; try again after Retry-After seconds",
    "503": "The service is shutting down",
    "504": "The time that the request allows has passed",
}
POSTED = ("400", "404", "405", "408", "413", "415", "429", "503", "504")

SCHEMES: dict[str, Table] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
"""How a key is sent; the roles that are listed with a scheme are those of which one is enough."""

QUOTA = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit-Policy")
"""Headers of every answer to a key with a quota."""

TOLD = {"401": ("WWW-Authenticate",), "429": ("Retry-After",)}
"""Headers of the answers with a code."""

HEADERS: dict[str, Table] = {
    "RateLimit-Limit": {"description": "What the quota allows in its window", "schema": {"type": "integer"}},
    "RateLimit-Remaining": {"description": "What is left of it now", "schema": {"type": "integer"}},
    "RateLimit-Reset": {"description": "Seconds until all of it is there again", "schema": {"type": "integer"}},
    "RateLimit-Policy": {
        "description": "100;w=1 is 100 requests in one second, 1000000;w=86400 a million rows a day",
        "schema": {"type": "string"},
    },
    "Retry-After": {"description": "Seconds after which to try again", "schema": {"type": "integer"}},
    "WWW-Authenticate": {"description": "How a key is sent", "schema": {"type": "string"}},
}

ELEMENT: dict[str, Table] = {"BOOL": {"type": "boolean"}, "BYTES": {"type": "string"}}


def document(versions: Sequence[Version]) -> Table:
    """The document for the versions that are served now."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "modelmill",
            "version": __version__,
            "description": "Predictions in plain JSON, or over the Open Inference Protocol.",
        },
        "tags": [
            {"name": "predict", "description": "Plain JSON: rows in, predictions out"},
            {"name": "open inference protocol", "description": "Version 2, with binary tensors"},
            {"name": "models", "description": "What is served"},
            {"name": "traffic", "description": "Which version answers, and how a new one takes over"},
            {"name": "searches", "description": "The searches of the ledger, also while they run"},
            {"name": "service", "description": "Health, figures and documents"},
        ],
        "paths": _secured(
            {
                **_predict_paths(versions),
                **_protocol_paths(),
                **_model_paths(),
                **_traffic_paths(),
                **_search_paths(),
                **_service_paths(),
            }
        ),
        "components": {"schemas": SCHEMAS, "securitySchemes": SCHEMES, "headers": HEADERS},
    }


def _secured(paths: Table) -> Table:
    """Every operation with the roles of which it needs one, where the service has keys, and its refusals."""
    for path, operations in paths.items():
        pattern = "predict/{name}" if path.startswith("/predict/") else path.strip("/")
        for method, operation in operations.items():
            roles = need(method.upper(), pattern)
            operation["security"] = [{scheme: sorted(roles)} for scheme in SCHEMES] if roles is not None else []
            if roles is not None:
                for code in ("401", "403", "429"):
                    operation["responses"].setdefault(code, {"description": REASONS[code], "content": _json("Error")})
            for code, response in operation["responses"].items():
                told = (*(QUOTA if roles is not None else ()), *TOLD.get(code, ()))
                if told:
                    response["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in told}
    return paths


def _predict_paths(versions: Sequence[Version]) -> Table:
    paths = {f"/predict/{version.name}": {"post": _predict(version)} for version in versions}
    general = _operation("predict", "Predict with a model or one of its versions", [NAME], _json("Prediction"), POSTED)
    rows = {"type": "array", "minItems": 1, "items": {"oneOf": [{"type": "object"}, {"type": "array"}]}}
    return {**paths, "/predict/{name}": {"post": {**general, **_predicted(rows, None, OTHER_BODIES)}}}


def _predict(version: Version) -> Table:
    signature = version.signature
    properties = {field.name: field_schema(field) for field in signature.inputs}
    required = [field.name for field in signature.inputs if not field.nullable]
    row = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    summary = f"Predict {signature.target or 'with ' + version.name} ({signature.task}, version {version.number})"
    operation = _operation("predict", summary, [], _json("Prediction"), POSTED)
    names = [field.name for field in signature.inputs]
    example = [dict(zip(names, views.example(signature), strict=True))] if signature.example else None
    rows = {"type": "array", "minItems": 1, "items": {"oneOf": [row, {"type": "array", "minItems": len(names)}]}}
    return {**operation, **_predicted(rows, example, _other_bodies(signature))}


OTHER_BODIES = ("text/csv", "image/png", "image/jpeg", "audio/wav")
"""What may be posted instead of JSON, where the model takes it."""


def _other_bodies(signature: Signature) -> Sequence[str]:
    """The types, beside JSON, of bodies that suit a model."""
    if any(field.kind == "image" for field in signature.inputs):
        return OTHER_BODIES[1:3]
    if any(field.kind == "sequence" for field in signature.inputs):
        return OTHER_BODIES[3:]
    return OTHER_BODIES[:1]


def _predicted(rows: Table, example: Any, others: Sequence[str]) -> Table:
    """The body of a prediction: rows as JSON, or one of the other types."""
    found = _body(rows, example)
    for kind in others:
        schema = {"type": "string"} if kind.startswith("text/") else {"type": "string", "format": "binary"}
        found["requestBody"]["content"][kind] = {"schema": schema}
    return found


def field_schema(field: Field) -> Table:
    """What a value of the field looks like in JSON.

    >>> field_schema(Field("age", "FP32", nullable=True))
    {'type': ['number', 'null']}
    >>> field_schema(Field("age", "FP32", (-1, 1)))["anyOf"][0]
    {'type': 'number'}
    """
    schema = dict(ELEMENT.get(field.datatype, {"type": "number" if field.datatype.startswith("FP") else "integer"}))
    if field.kind == "date":
        schema = {"type": "string", "description": "ISO 8601 date or date and time, UTC"}
    if field.nullable and field.is_column:
        schema["type"] = [schema["type"], "null"]
    bare = schema
    for size in reversed(field.row):
        sizes = {} if size < 0 else {"minItems": size, "maxItems": size}
        schema = {"type": "array", "items": schema, **sizes}
    return {"anyOf": [bare, schema]} if field.row and field.is_column else schema


def _protocol_paths() -> Table:
    tag = "open inference protocol"
    model, version = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
    paths: Table = {
        "/v2": _get(tag, "Who answers, and which extensions", [], "ServerMetadata"),
        "/v2/health/live": _get(tag, "Whether the process answers", [], "Health"),
        "/v2/health/ready": _get(tag, "Whether requests should be sent here", [], "Health", ("503",)),
    }
    for path, names in ((model, [NAME]), (version, [NAME, NUMBER])):
        infer = _operation(tag, "Infer", names, _json("InferenceResponse"), POSTED)
        paths[path] = _get(tag, "What the model takes and gives", names, "ModelMetadata", ("400", "404"))
        paths[f"{path}/ready"] = _get(tag, "Whether the model answers", names, "ModelReady", ("400", "404", "503"))
        paths[f"{path}/infer"] = {"post": {**infer, **_body(reference("InferenceRequest"), None, binary=True)}}
        paths[f"{path}/config"] = _get(tag, "The model's configuration", names, "ModelConfig", ("400", "404"))
        paths[f"{path}/stats"] = _get(tag, "What the model has done", names, "ModelStatistics", ("400", "404"))
    paths["/v2/models/stats"] = _get(tag, "What all models have done", [], "ModelStatistics")
    refused = ("400", "408", "413", "415")
    index = _operation(tag, "The models that are served", [], _json("RepositoryIndex"), refused)
    paths["/v2/repository/index"] = {"post": {**index, **_optional({"ready": {"type": "boolean"}})}}
    for verb, summary in (("load", "Serve a model again"), ("unload", "Serve a model no longer")):
        change = _operation(tag, summary, [NAME], _json("Any"), (*refused, "404"))
        given = {"unload_dependents": {"type": "boolean"}} if verb == "unload" else {}
        asked = {"parameters": {"type": "object", "properties": given, "additionalProperties": False}}
        paths[f"/v2/repository/models/{{name}}/{verb}"] = {"post": {**change, **_optional(asked)}}
    return paths


def _model_paths() -> Table:
    return {
        "/api/status": _get("service", "How well the service does against its objectives", [], "Any"),
        "/api/models": _get("models", "The served models", [], "Any"),
        "/api/models/{name}": _get("models", "A model in full: signature, versions, example", [NAME], "Any", ("404",)),
        "/api/models/{name}/report": {
            "get": _operation("models", "The HTML report of a version", [NAME], _media("text/html"), ("404",))
        },
    }


def _traffic_paths() -> Table:
    tag, model, codes = "traffic", "/api/models/{name}", ("400", "404", "408", "409", "413", "415")
    begin = _operation(tag, "Begin a rollout", [NAME], _json("Any"), codes)
    begin["responses"]["201"] = begin["responses"].pop("200")
    abort = _operation(tag, "End the rollout that is on its way", [NAME], _json("Any"), ("409",))
    put = _operation(tag, "Let a router say which version answers", [NAME], _json("Any"), codes)
    clear = _operation(tag, "Let the live version answer", [NAME], _json("Any"), ())
    return {
        "/api/deployments": _get(tag, "Who answers for each model", [], "Any"),
        f"{model}/changes": _get(tag, "What changed, the newest first", [NAME], "Any", ("404",)),
        f"{model}/rollout": {
            **_get(tag, "The rollouts of a model, the newest first", [NAME], "Any"),
            "post": {**begin, **_body(ROLLOUT, {"version": 2, "steps": [1, 5, 25, 100]})},
            "delete": abort,
        },
        f"{model}/route": {
            "put": {**put, **_body(ROUTE, {"method": "canary", "candidate": "2", "percent": 5})},
            "delete": clear,
        },
    }


def _search_paths() -> Table:
    return {
        "/api/runs": _get("searches", "All searches, the newest first", [], "Any"),
        "/api/runs/{id}": _get("searches", "A search in full: its trials, its best, its front", [RUN], "Any", ("404",)),
    }


def _service_paths() -> Table:
    return {
        "/api/audit": _get("service", "Who changed what, when and from where", [SINCE, LIMIT], "Any", ("400",)),
        "/signin": {
            "get": _operation("service", "The page on which a person shows a key", [], _media("text/html"), ()),
            "post": _form("Take a key, and give a cookie for it", {"key": TEXT, "next": TEXT}),
        },
        "/signout": {"post": _form("Take the cookie back", {})},
        "/metrics": {"get": _operation("service", "Figures for Prometheus", [], _media("text/plain"), ())},
        "/openapi.json": _get("service", "This document", [], "Any"),
        "/docs": {"get": _operation("service", "This document as a page", [], _media("text/html"), ())},
    }


def _form(summary: str, fields: Table) -> Table:
    """What a form of a page for people is sent to."""
    responses = {
        "303": {"description": "Where the person goes on"},
        **{code: {"description": REASONS[code], "content": _json("Error")} for code in ("400", "403", "413")},
    }
    schema = {"type": "object", "properties": fields}
    body = {"content": {"application/x-www-form-urlencoded": {"schema": schema}}}
    return {"tags": ["service"], "summary": summary, "parameters": [], "requestBody": body, "responses": responses}


def _get(tag: str, summary: str, parameters: Sequence[Table], schema: str, codes: Sequence[str] = ()) -> Table:
    return {"get": _operation(tag, summary, parameters, _json(schema), codes)}


def _operation(tag: str, summary: str, parameters: Sequence[Table], answer: Table, codes: Sequence[str]) -> Table:
    refusals = {code: {"description": REASONS[code], "content": _json("Error")} for code in codes}
    responses = {"200": {"description": "The answer", "content": answer}, **refusals}
    return {"tags": [tag], "summary": summary, "parameters": list(parameters), "responses": responses}


def _body(schema: Table, example: Any, binary: bool = False) -> Table:
    content: Table = {"application/json": {"schema": schema}}
    if example is not None:
        content["application/json"]["example"] = example
    if binary:
        content["application/octet-stream"] = {
            "schema": {"description": "JSON, then tensors; Inference-Header-Content-Length says where they begin"}
        }
    return {"requestBody": {"required": True, "content": content}}


def _optional(properties: Table) -> Table:
    schema = {"type": "object", "properties": properties}
    return {"requestBody": {"required": False, "content": {"application/json": {"schema": schema}}}}


def _json(schema: str) -> Table:
    return {"application/json": {"schema": reference(schema)}}


def _media(type: str) -> Table:
    return {type: {"schema": {"type": "string"}}}
