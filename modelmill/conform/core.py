"""What every server of the protocol does over HTTP: health, metadata, inference, refusals."""

from __future__ import annotations

from typing import Any

import orjson

from modelmill.conform import tensors
from modelmill.conform.check import REST, Check
from modelmill.conform.deviation import Deviation, LeftOut, shown, wanted
from modelmill.conform.http import Answer
from modelmill.conform.subject import BOTH, Subject, check_metadata

NOBODY = "conform-no-such-model"


def live(subject: Subject) -> None:
    """Liveness."""
    answer = subject.http.ask("GET", "v2/health/live")
    wanted(answer.status == 200, str(answer))


def live_body(subject: Subject) -> None:
    """Liveness as JSON."""
    found = subject.http.ask("GET", "v2/health/live").object()
    wanted(found.get("live") is True, shown(found))


def ready(subject: Subject) -> None:
    """Readiness."""
    answer = subject.http.ask("GET", "v2/health/ready")
    wanted(answer.status == 200, str(answer))


def ready_body(subject: Subject) -> None:
    """Readiness as JSON."""
    found = subject.http.ask("GET", "v2/health/ready").object()
    wanted(True in (found.get("live"), found.get("ready")), shown(found))


def server_metadata(subject: Subject) -> None:
    """Who answers."""
    found = subject.http.ask("GET", "v2").object()
    for key in ("name", "version"):
        wanted(isinstance(found.get(key), str), f"{key} is {shown(found.get(key))}")
    listed = found.get("extensions")
    sound = isinstance(listed, list) and all(isinstance(name, str) for name in listed)
    wanted(sound, f"extensions are {shown(listed)}")


def content_type(subject: Subject) -> None:
    """JSON says that it is JSON."""
    answer = subject.http.ask("GET", "v2")
    wanted(answer.media == "application/json", f"content-type {answer.headers.get('content-type', '')!r}")


def model_metadata(subject: Subject) -> None:
    """What the model takes and gives."""
    found = subject.http.ask("GET", subject.path()).object()
    wanted(found.get("name") == subject.model, f"name is {shown(found.get('name'))}")
    wanted(isinstance(found.get("platform"), str), f"platform is {shown(found.get('platform'))}")
    check_metadata(found)
    for side in ("inputs", "outputs"):
        wanted(bool(found[side]), f"no {side}")


def versions(subject: Subject) -> None:
    """Versions are a list of texts."""
    listed = subject.metadata.get("versions")
    if listed is None:
        raise LeftOut("the model has no versions")
    sound = isinstance(listed, list) and all(isinstance(version, str) for version in listed)
    wanted(sound, f"versions are {shown(listed)}")


def _version(subject: Subject) -> str:
    """One version that may be asked for."""
    listed = subject.metadata.get("versions")
    if not isinstance(listed, list) or not listed:
        raise LeftOut("the model has no versions")
    return str(listed[-1])


def version_metadata(subject: Subject) -> None:
    """Metadata of a version."""
    found = subject.http.ask("GET", subject.path(_version(subject))).object()
    wanted(found.get("name") == subject.model, f"name is {shown(found.get('name'))}")
    check_metadata(found)


def version_ready(subject: Subject) -> None:
    """Readiness of a version."""
    answer = subject.http.ask("GET", subject.path(_version(subject), "ready"))
    wanted(answer.status == 200, str(answer))


def version_infer(subject: Subject) -> None:
    """Inference by a version, which says that it answered."""
    version = _version(subject)
    found = subject.answered(subject.request(id="conform-5"), version)
    wanted(found.get("model_version") == version, f"model_version is {shown(found.get('model_version'))}")
    wanted(found.get("id") == "conform-5", f"id is {shown(found.get('id'))}")


def model_ready(subject: Subject) -> None:
    """Readiness of the model."""
    answer = subject.http.ask("GET", subject.path("", "ready"))
    wanted(answer.status == 200, str(answer))


def model_ready_body(subject: Subject) -> None:
    """Readiness of the model as JSON."""
    found = subject.http.ask("GET", subject.path("", "ready")).object()
    wanted((found.get("name"), found.get("ready")) == (subject.model, True), shown(found))


def infer(subject: Subject) -> None:
    """A request is answered."""
    found = subject.answered(subject.request())
    wanted(found.get("model_name") == subject.model, f"model_name is {shown(found.get('model_name'))}")
    version = found.get("model_version", "")
    wanted(isinstance(version, str), f"model_version is {shown(version)}")


def infer_type(subject: Subject) -> None:
    """An answer in JSON says that it is JSON."""
    if subject.answers_bytes:
        raise LeftOut("JSON has no form for an output: the answer is asked for as bytes")
    answer = subject.infer(subject.request())
    wanted(answer.status == 200, str(answer))
    wanted(answer.media == "application/json", f"content-type {answer.headers.get('content-type', '')!r}")


def infer_response(subject: Subject) -> None:
    """What an answer has beside its tensors is of the types that are said."""
    found = subject.answered(subject.request())
    wanted(isinstance(found.get("id", ""), str), f"id is {shown(found.get('id'))}")
    tensors.check_parameters(found)


def infer_elements(subject: Subject) -> None:
    """Elements are as many as the shape says, of the datatype's JSON type."""
    tensors.outputs_of(subject.answered(subject.request()))


def infer_all_outputs(subject: Subject) -> None:
    """Without outputs all are returned."""
    found = [tensor["name"] for tensor in subject.answered(subject.request())["outputs"]]
    wanted(
        sorted(found) == sorted(subject.outputs), f"{shown(found)}, and the model has {shown(list(subject.outputs))}"
    )


def infer_output(subject: Subject) -> None:
    """The outputs that are asked for are returned, and no others."""
    name = list(subject.outputs)[-1]
    found = subject.answered(subject.request(outputs=[{"name": name}]))
    came = [tensor["name"] for tensor in found["outputs"]]
    wanted(came == [name], shown(came))


def infer_nested(subject: Subject) -> None:
    """Nested and flat data are the same."""
    if all(tensor["datatype"] in tensors.HALVES for tensor in subject.inputs):
        raise LeftOut("JSON has no form for any input")
    rows, expected = subject.several
    subject.agree(tensors.outputs_of(subject.answered(subject.request(rows, nested=True))), expected, "flat")


def infer_batch(subject: Subject) -> None:
    """Two rows together have an answer of two rows."""
    if not subject.batches:
        raise LeftOut("the model takes a fixed number of rows")
    first = subject.usual
    found = tensors.outputs_of(subject.answered(subject.request(BOTH)))
    for name in _by_rows(subject):
        came, count = len(found.get(name, [])), len(first.get(name, []))
        if came != 2 * count and subject.batch_size() == 0:
            raise LeftOut(f"max_batch_size is 0: its first axis need not be of rows: {name} has {came} elements")
        wanted(came == 2 * count, f"{name} has {came} elements for two rows, {count} for one")


def infer_alone(subject: Subject) -> None:
    """Two rows together are answered as each of them alone, where the model has it so."""
    first, second = subject.usual, subject.second
    rows, found = subject.several
    if rows != BOTH:
        raise LeftOut("the model does not answer two rows together")
    alone = {name: [*first.get(name, []), *second.get(name, [])] for name in _by_rows(subject)}
    try:
        subject.agree(found, alone, "row by row")
    except Deviation as error:
        raise LeftOut(f"rows of a model may depend on each other, and these do: {error}") from None


def _by_rows(subject: Subject) -> list[str]:
    """The outputs that have any number of rows, and nothing else that may be any."""
    listed = {name: tensor["shape"] for name, tensor in subject.outputs.items()}
    return [name for name, shape in listed.items() if shape[:1] == [-1] and all(size >= 0 for size in shape[1:])]


def infer_data(subject: Subject) -> None:
    """Other data have another answer."""
    if all(tensors.same(subject.second.get(name, []), elements) for name, elements in subject.usual.items()):
        raise LeftOut("both rows have the same answer: what compares answers says little of this model")


def infer_id(subject: Subject) -> None:
    """The id comes back."""
    found = subject.answered(subject.request(id="conform-4ü"))
    wanted(found.get("id") == "conform-4ü", f"id is {shown(found.get('id'))}")


def infer_no_id(subject: Subject) -> None:
    """Without an id none comes back."""
    found = subject.answered(subject.request()).get("id")
    wanted(not found, f"id is {shown(found)}, and none was sent")


def infer_empty_parameters(subject: Subject) -> None:
    """Empty parameters are parameters."""
    request = subject.request(parameters={})
    request["inputs"] = [{**tensor, "parameters": {}} for tensor in request["inputs"]]
    request["outputs"] = [{"name": name, "parameters": {}} for name in subject.outputs]
    subject.answered(request)


def infer_order(subject: Subject) -> None:
    """Inputs go by their names."""
    if len(subject.inputs) < 2:
        raise LeftOut("the model has one input")
    usual, request = subject.usual, subject.request()
    request["inputs"] = request["inputs"][::-1]
    found = tensors.outputs_of(subject.answered(request))
    subject.agree(found, usual, "in the order of the metadata")


def _refused(answer: Answer) -> None:
    """Raise Deviation unless an answer is an error with the object that says which."""
    wanted(400 <= answer.status < 600, str(answer))
    found: Any = answer.json()
    sound = isinstance(found, dict) and isinstance(found.get("error"), str) and bool(found["error"])
    wanted(sound, f"{answer.status} with {shown(found)}, not an object with the text error")


def error_infer(subject: Subject) -> None:
    """A failed inference has an error."""
    _refused(subject.infer({"inputs": []}))


def error_metadata(subject: Subject) -> None:
    """Metadata of no model are an error, and those of no version."""
    _refused(subject.http.ask("GET", subject.path(model=NOBODY)))
    if subject.metadata.get("versions"):
        _refused(subject.http.ask("GET", subject.path("987654321")))


def error_model(subject: Subject) -> None:
    """Inference by no model is an error."""
    body = orjson.dumps({"inputs": []})
    _refused(subject.http.ask("POST", subject.path(call="infer", model=NOBODY), body))


def error_version(subject: Subject) -> None:
    """Inference by no version is an error."""
    _refused(subject.infer(subject.request(), "987654321"))


def unready(subject: Subject) -> None:
    """No model is not ready."""
    answer = subject.http.ask("GET", subject.path(call="ready", model=NOBODY))
    if answer.status == 200:
        wanted(answer.object().get("ready") is False, str(answer))


def not_found(subject: Subject) -> None:
    """What is not there is 404."""
    answers = [subject.http.ask("GET", subject.path(model=NOBODY)), subject.infer(subject.request(), "987654321")]
    came = [answer.status for answer in answers]
    wanted(came == [404, 404], f"{came[0]} for an unknown model, {came[1]} for an unknown version")


TABLE = f"{REST}, table of APIs"
RESPONSE = f"{REST}, Inference Response JSON Object"
REQUEST = f"{REST}, Inference Request JSON Object"

CHECKS = (
    Check("core.live", "GET v2/health/live says that requests can be received", TABLE, live),
    Check("core.live.body", '{"live": true}', f"{REST}, Server Live", live_body, "should"),
    Check("core.ready", "GET v2/health/ready says that all models are ready", TABLE, ready),
    Check("core.ready.body", '{"live": true} (sic), or {"ready": true}', f"{REST}, Server Ready", ready_body, "should"),
    Check("core.server", "name, version and extensions of the server", f"{REST}, Server Metadata", server_metadata),
    Check("core.server.type", "JSON is sent as application/json", f"{REST}, examples", content_type, "should"),
    Check(
        "core.metadata", "name, platform, inputs and outputs of the model", f"{REST}, Model Metadata", model_metadata
    ),
    Check("core.metadata.versions", "versions is a list of strings", f"{REST}, Model Metadata", versions),
    Check("core.metadata.version", "a version that is listed has metadata", TABLE, version_metadata),
    Check("core.model_ready", "GET .../ready says that the model is ready", TABLE, model_ready),
    Check("core.model_ready.body", '{"name": ..., "ready": true}', f"{REST}, Model Ready", model_ready_body, "should"),
    Check("core.model_ready.version", "a version that is listed is ready", TABLE, version_ready),
    Check("core.model_ready.unknown", "a model that is not there is not ready", f"{REST}, Model Ready", unready),
    Check("core.infer", "a request that fits the metadata is answered with 200", RESPONSE, infer),
    Check("core.infer.type", "an answer in JSON is sent as application/json", f"{REST}, examples", infer_type),
    Check(
        "core.infer.response", "id is a string, parameters hold strings, numbers, booleans", RESPONSE, infer_response
    ),
    Check("core.infer.elements", "data has the elements that shape and datatype say", RESPONSE, infer_elements),
    Check("core.infer.outputs.all", "without outputs all outputs are returned", REQUEST, infer_all_outputs),
    Check("core.infer.outputs", "the outputs that are requested are returned", REQUEST, infer_output),
    Check("core.infer.nested", "data may be nested or flat", f"{REST}, Tensor Data", infer_nested),
    Check("core.infer.data", "other data may have another answer", f"{REST}, Tensor Data", infer_data, "should"),
    Check("core.infer.batch", "an input of two rows is answered with two", f"{REST}, Request Input", infer_batch),
    Check(
        "core.infer.batch.alone",
        "rows may be answered together as they are alone",
        f"{REST}, Request Input",
        infer_alone,
        "should",
    ),
    Check("core.infer.id", "the id of the request is returned", REQUEST, infer_id),
    Check("core.infer.id.none", "without an id in the request none is returned", RESPONSE, infer_no_id, "should"),
    Check("core.infer.parameters", "parameters are optional objects", f"{REST}, Parameters", infer_empty_parameters),
    Check("core.infer.order", "inputs are found by their names", f"{REST}, Request Input", infer_order),
    Check("core.infer.version", "the version in the path answers, with the id", RESPONSE, version_infer),
    Check(
        "core.error.infer", "a failed inference is an error status with error", f"{REST}, Inference Error", error_infer
    ),
    Check(
        "core.error.metadata",
        "failed metadata are an error status with error",
        f"{REST}, Metadata Error",
        error_metadata,
    ),
    Check("core.error.model", "a model that is not there is an error", f"{REST}, Inference Error", error_model),
    Check("core.error.version", "a version that is not there is an error", f"{REST}, Inference Error", error_version),
    Check("core.error.not_found", "what is not there is 404", "RFC 9110, 15.5.5", not_found, "should"),
)
