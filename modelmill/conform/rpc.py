"""What every server of the protocol does over gRPC, and what it does with calls that no client should make."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from modelmill.conform import tensors
from modelmill.conform.channel import PACKAGE, Document, Refusal
from modelmill.conform.check import GRPC, Check
from modelmill.conform.core import NOBODY
from modelmill.conform.deviation import Deviation, LeftOut, shown, wanted
from modelmill.conform.subject import FIRST, Subject
from modelmill.protocol.contents import CONTENTS

OVER_HTTP = "over HTTP"
CLIENTS = (
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "OUT_OF_RANGE",
    "FAILED_PRECONDITION",
    "UNIMPLEMENTED",
    "RESOURCE_EXHAUSTED",
)
"""The codes of a call that its client got wrong."""


def call(subject: Subject, method: str, request: Mapping[str, Any] | bytes) -> Document | Refusal:
    """The fields of the answer to a call that came, or how it failed. Raises Deviation where none comes."""
    assert subject.grpc is not None, "these checks are for servers whose gRPC port was named"
    return subject.grpc.call(method if "/" in method else PACKAGE + method, request)


def answered(subject: Subject, method: str, request: Mapping[str, Any]) -> Document:
    """The answer to a call that should succeed. Raises Deviation."""
    found = call(subject, method, request)
    if isinstance(found, Refusal):
        raise Deviation(str(found))
    return found


def infer_request(subject: Subject, raw: bool, numbers: tuple[int, ...] = FIRST, **rest: Any) -> Document:
    """A call of inference that the model should take."""
    inputs, pieces, rows = [], [], subject.rows(numbers)
    for place, tensor in enumerate(subject.inputs):
        entry: Document = {"name": tensor["name"], "datatype": tensor["datatype"], "shape": rows.shape(tensor)}
        if raw:
            pieces.append(tensors.in_bytes(tensor, rows, place))
        elif tensor["datatype"] not in CONTENTS:
            raise LeftOut(f"{tensor['name']} is {tensor['datatype']}, which has no typed contents")
        else:
            values = rows.values(tensor, place)
            texts = [value.encode() for value in values] if tensor["datatype"] == "BYTES" else values
            entry["contents"] = {CONTENTS[tensor["datatype"]]: texts}
        inputs.append(entry)
    return {"model_name": subject.model, "inputs": inputs, **({"raw_input_contents": pieces} if raw else {}), **rest}


def elements(subject: Subject, answer: Document) -> dict[str, list[Any]]:
    """The elements of the outputs by name. Raises Deviation where they are not what the metadata say."""
    outputs, raw = answer.get("outputs", []), answer.get("raw_output_contents", [])
    wanted(not raw or len(raw) == len(outputs), f"{len(outputs)} outputs and {len(raw)} raw contents")
    found = {}
    for place, output in enumerate(outputs):
        tensor = {**output, "shape": [int(size) for size in output.get("shape", [])]}
        tensors.check_tensor(tensor, subject.outputs)
        found[tensor["name"]] = output_elements(tensor, raw[place] if raw else None)
    return found


def output_elements(tensor: Document, raw: bytes | None) -> list[Any]:
    """The elements of one output, raw or typed. Raises Deviation."""
    if raw is not None:
        wanted(not tensor.get("contents"), f"{tensor['name']} with raw and with typed contents")
        return tensors.read_bytes(tensor, raw)
    typed = list((tensor.get("contents") or {}).get(CONTENTS.get(tensor["datatype"], ""), []))
    texts = [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in typed]
    return tensors.flat({**tensor, "data": [_plain(value) for value in texts]})


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def live(subject: Subject) -> None:
    """ServerLive."""
    wanted(answered(subject, "ServerLive", {}).get("live") is True, "live is false")


def ready(subject: Subject) -> None:
    """ServerReady."""
    wanted(answered(subject, "ServerReady", {}).get("ready") is True, "ready is false")


def model_ready(subject: Subject) -> None:
    """ModelReady."""
    wanted(answered(subject, "ModelReady", {"name": subject.model}).get("ready") is True, "ready is false")


def unready(subject: Subject) -> None:
    """ModelReady of no model."""
    found = call(subject, "ModelReady", {"name": NOBODY})
    if not isinstance(found, Refusal):
        wanted(not found.get("ready"), "ready is true")


def server_metadata(subject: Subject) -> None:
    """ServerMetadata says what GET v2 says."""
    found = answered(subject, "ServerMetadata", {})
    for key in ("name", "version"):
        wanted(found.get(key) == subject.server.get(key), f"{key} is {shown(found.get(key))}")


def model_metadata(subject: Subject) -> None:
    """ModelMetadata says what the model's metadata say."""
    found = answered(subject, "ModelMetadata", {"name": subject.model})
    wanted(found.get("name") == subject.model, f"name is {shown(found.get('name'))}")
    for side in ("inputs", "outputs"):
        came = [
            {"name": t.get("name"), "datatype": t.get("datatype"), "shape": [int(size) for size in t.get("shape", [])]}
            for t in found.get(side, [])
        ]
        over_http = [{key: tensor[key] for key in ("name", "datatype", "shape")} for tensor in subject.metadata[side]]
        wanted(came == over_http, f"{side} {shown(came)}, over HTTP {shown(over_http)}")


def infer_raw(subject: Subject) -> None:
    """Raw contents."""
    found = answered(subject, "ModelInfer", infer_request(subject, True))
    wanted(found.get("model_name") == subject.model, f"model_name is {shown(found.get('model_name'))}")
    elements(subject, found)
    rows, expected = subject.several
    found = answered(subject, "ModelInfer", infer_request(subject, True, rows))
    subject.agree(elements(subject, found), expected, OVER_HTTP)


def infer_typed(subject: Subject) -> None:
    """Typed contents."""
    rows, expected = subject.several
    found = answered(subject, "ModelInfer", infer_request(subject, False, rows))
    subject.agree(elements(subject, found), expected, OVER_HTTP)


def infer_id(subject: Subject) -> None:
    """The id comes back."""
    found = answered(subject, "ModelInfer", infer_request(subject, raw=True, id="conform-4ü"))
    wanted(found.get("id") == "conform-4ü", f"id is {shown(found.get('id'))}")


def infer_parameters(subject: Subject) -> None:
    """Parameters of an answer are each of one type; empty ones may be sent."""
    request = infer_request(subject, raw=True, parameters={})
    found = answered(subject, "ModelInfer", request)
    for at, holder in (("", found), *((f" of {output.get('name')}", output) for output in found.get("outputs", []))):
        for name, value in holder.get("parameters", {}).items():
            wanted(len(value) == 1, f"the parameter {name}{at} is {shown(value)}, not of one type")


def infer_output(subject: Subject) -> None:
    """The outputs that are asked for are returned, and no others."""
    name = list(subject.outputs)[-1]
    found = answered(subject, "ModelInfer", infer_request(subject, raw=True, outputs=[{"name": name}]))
    came = [output.get("name") for output in found.get("outputs", [])]
    wanted(came == [name], shown(came))


def infer_version(subject: Subject) -> None:
    """The version that is asked for answers."""
    listed = subject.metadata.get("versions")
    if not listed:
        raise LeftOut("the model has no versions")
    request = infer_request(subject, raw=True, model_version=listed[-1], id="conform-5")
    found = answered(subject, "ModelInfer", request)
    wanted(found.get("id") == "conform-5", f"id is {shown(found.get('id'))}")
    wanted(found.get("model_version") == listed[-1], f"model_version is {shown(found.get('model_version'))}")


def not_found(subject: Subject) -> None:
    """What is not there is NOT_FOUND."""
    for method, request in (
        ("ModelMetadata", {"name": NOBODY}),
        ("ModelInfer", {**infer_request(subject, raw=True), "model_name": NOBODY}),
    ):
        found = call(subject, method, request)
        wanted(isinstance(found, Refusal) and found.code == "NOT_FOUND", f"{method}: {_said(found)}")


def _said(found: Document | Refusal) -> str:
    return str(found) if isinstance(found, Refusal) else "an answer"


def refuses(subject: Subject) -> None:
    """Calls that no client should make."""
    good = infer_request(subject, raw=True)
    first = good["inputs"][0]
    typed: Document = {"contents": {"fp32_contents": [1.0]}}
    bad: dict[str, Document | bytes] = {
        "a message that is none": b"\xff\xff\xff\xff\xff",
        "no inputs": {"model_name": subject.model},
        "an input that the model has not": _changed(good, name="conform-no-such-input"),
        "a datatype that does not exist": _changed(good, datatype="FP33"),
        "a negative size": _changed(good, shape=[-5, *first["shape"][1:]]),
        "a shape of 2^62 elements": _changed(good, shape=[2**31, 2**31]),
        "raw contents and typed ones": {**good, "inputs": [{**first, **typed}, *good["inputs"][1:]]},
        "a raw content too few": {**good, "raw_input_contents": good["raw_input_contents"][:-1]},
        "a byte too many": {
            **good,
            "raw_input_contents": [*good["raw_input_contents"][:-1], good["raw_input_contents"][-1] + b"\0"],
        },
        "an output that the model has not": {**good, "outputs": [{"name": "conform-no-such-output"}]},
        "a version that is none": {**good, "model_version": "conform"},
    }
    for said, request in bad.items():
        try:
            found = call(subject, "ModelInfer", request)
        except Deviation as error:
            raise Deviation(f"{error} for {said}") from None
        wanted(isinstance(found, Refusal) and found.code in CLIENTS, f"{_said(found)} for {said}")
    with contextlib.suppress(LeftOut):
        infer_raw(subject)


def _changed(request: Document, **changes: Any) -> Document:
    return {**request, "inputs": [{**request["inputs"][0], **changes}, *request["inputs"][1:]]}


CHECKS = (
    Check("core.grpc.live", "ServerLive says true", f"{GRPC}, Server Live", live),
    Check("core.grpc.ready", "ServerReady says true", f"{GRPC}, Server Ready", ready),
    Check("core.grpc.server", "ServerMetadata says what GET v2 says", f"{GRPC}, Server Metadata", server_metadata),
    Check(
        "core.grpc.metadata", "ModelMetadata says what GET of the model says", f"{GRPC}, Model Metadata", model_metadata
    ),
    Check("core.grpc.model_ready", "ModelReady says true", f"{GRPC}, Model Ready", model_ready),
    Check("core.grpc.model_ready.unknown", "a model that is not there is not ready", f"{GRPC}, Model Ready", unready),
    Check("core.grpc.infer.raw", "raw contents are answered as over HTTP", f"{GRPC}, Inference", infer_raw),
    Check("core.grpc.infer.typed", "typed contents are answered as over HTTP", f"{GRPC}, Inference", infer_typed),
    Check("core.grpc.infer.id", "the id of the request is returned", f"{GRPC}, Inference", infer_id),
    Check(
        "core.grpc.infer.parameters",
        "parameters are each of one type",
        f"{GRPC}, Infer Parameter",
        infer_parameters,
    ),
    Check("core.grpc.infer.outputs", "the outputs that are requested are returned", f"{GRPC}, Inference", infer_output),
    Check(
        "core.grpc.infer.version",
        "the version that is asked for answers, with the id",
        f"{GRPC}, Inference",
        infer_version,
    ),
    Check("core.grpc.not_found", "what is not there is NOT_FOUND", "gRPC status codes", not_found, "should"),
    Check("robustness.grpc", "calls that are wrong have the code of a client's fault", "gRPC status codes", refuses),
)
