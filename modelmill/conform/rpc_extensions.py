"""What a server offers over gRPC beyond the core: streams and health where it has them, the rest where it lists it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from modelmill.conform import tensors
from modelmill.conform.body import parts
from modelmill.conform.channel import PACKAGE, Document, Refusal
from modelmill.conform.check import Check, Level
from modelmill.conform.core import NOBODY
from modelmill.conform.deviation import Deviation, LeftOut, shown, wanted
from modelmill.conform.extensions import CLASSES, check_growth, ranked, summed
from modelmill.conform.rpc import CLIENTS, OVER_HTTP, answered, call, elements, infer_request, output_elements
from modelmill.conform.subject import FIRST, SECOND, Subject
from modelmill.errors import RequestError
from modelmill.protocol.schema import schema

REPOSITORY = "/inference.model_repository.ModelRepositoryService/"
HEALTH = "/grpc.health.v1.Health/Check"
SERVING = 1


def stream(subject: Subject) -> None:
    """Requests of a stream are answered one by one, as they are alone."""
    assert subject.grpc is not None, "these checks are for servers whose gRPC port was named"
    asked = {f"conform-{row[0]}": row for row in (FIRST, SECOND)}
    requests = [infer_request(subject, True, row, id=name) for name, row in asked.items()]
    found = subject.grpc.stream(f"{PACKAGE}ModelStreamInfer", requests)
    if isinstance(found, Refusal):
        _check_there(found, "ModelStreamInfer")
        raise Deviation(str(found))
    answers = [_streamed(message) for message in found]
    came = [answer.get("id") for answer in answers]
    wanted(sorted(map(str, came)) == sorted(asked), f"the answers have the ids {shown(came)}, asked {shown([*asked])}")
    expected = {"conform-0": subject.usual, "conform-1": subject.second}
    for answer in answers:
        subject.agree(elements(subject, answer), expected[answer["id"]], OVER_HTTP)


def _streamed(message: bytes) -> Document:
    """An answer of a stream: in an envelope as Triton has it, or bare, as MLServer has it. Raises Deviation."""
    try:
        bare = schema().decode("inference.ModelInferResponse", message)
        if bare.get("outputs"):
            return bare
    except RequestError:
        pass  # what stands second in an envelope is no text
    try:
        found = schema().decode("inference.ModelStreamInferResponse", message)
    except RequestError as error:
        raise Deviation(f"an answer that is no ModelStreamInferResponse: {error.message}") from None
    wanted(not found.get("error_message"), f"error_message {shown(found.get('error_message'))}")
    answer: Document = found.get("infer_response", {})
    return answer


def health(subject: Subject) -> None:
    """The server serves, and knows nothing of a service that is not there."""
    found = call(subject, HEALTH, {})
    if isinstance(found, Refusal):
        _check_there(found, "grpc.health.v1")
        raise Deviation(str(found))
    wanted(found.get("status") == SERVING, f"status is {shown(found.get('status'))}, SERVING is {SERVING}")
    found = call(subject, HEALTH, {"service": NOBODY})
    said = str(found) if isinstance(found, Refusal) else shown(found)
    wanted(isinstance(found, Refusal) and found.code == "NOT_FOUND", f"{said} for a service that is not there")


def _check_there(found: Refusal, name: str) -> None:
    """Raise LeftOut where a server says that it has no such method."""
    if found.code == "UNIMPLEMENTED":
        raise LeftOut(f"the server has no {name}")


def statistics(subject: Subject) -> None:
    """What the model has done, and that it grows."""
    before = _figures(subject)
    answered(subject, "ModelInfer", infer_request(subject, raw=True))
    check_growth(before, lambda: _figures(subject))


def _figures(subject: Subject) -> dict[str, int]:
    listed = answered(subject, "ModelStatistics", {"name": subject.model}).get("model_stats", [])
    wanted(bool(listed), "no model_stats")
    for entry in listed:
        wanted(entry.get("name") == subject.model, f"name {shown(entry.get('name'))}")
    return summed(listed)


def configuration(subject: Subject) -> None:
    """The model as its configuration describes it."""
    found = answered(subject, "ModelConfig", {"name": subject.model}).get("config", {})
    wanted(found.get("name") == subject.model, f"name {shown(found.get('name'))}")
    for key, names in (("input", [t["name"] for t in subject.inputs]), ("output", list(subject.outputs))):
        listed = found.get(key, [])
        came = sorted(str(tensor.get("name")) for tensor in listed)
        wanted(came == sorted(names), f"{key} {shown(came)}, metadata {shown(names)}")
        untyped = [tensor.get("name") for tensor in listed if not tensor.get("data_type")]
        wanted(not untyped, f"{key} {shown(untyped)} without a data_type")


def repository_index(subject: Subject) -> None:
    """The index lists the model."""
    found = _repository(subject, "RepositoryIndex", {})
    if isinstance(found, Refusal):
        raise Deviation(str(found))
    came = [entry.get("name") for entry in found.get("models", [])]
    wanted(subject.model in came, f"no entry for {subject.model} in {shown(came)}")


def repository_load(subject: Subject) -> None:
    """A model that is not there cannot be loaded, and that is the client's fault."""
    found = _repository(subject, "RepositoryModelLoad", {"model_name": NOBODY})
    said = str(found) if isinstance(found, Refusal) else "an answer"
    wanted(isinstance(found, Refusal) and found.code in CLIENTS, said)
    wanted(isinstance(found, Refusal) and found.code != "UNIMPLEMENTED", said)


def _repository(subject: Subject, method: str, request: Mapping[str, Any]) -> Document | Refusal:
    """A call of Triton's service, or, where that has none such, of MLServer's second one."""
    found = call(subject, method, request)
    if isinstance(found, Refusal) and found.code == "UNIMPLEMENTED":
        return call(subject, REPOSITORY + method, request)
    return found


def classification(subject: Subject) -> None:
    """The best classes are those over HTTP."""
    name = ranked(subject)
    wishes = [{"name": name, "parameters": {"classification": CLASSES}}]
    answer = subject.infer(subject.request(outputs=wishes))
    over_http = tensors.flat(tensors.joined(*parts(answer))["outputs"][0])
    wish = {"name": name, "parameters": {"classification": {"int64_param": CLASSES}}}
    found = answered(subject, "ModelInfer", infer_request(subject, raw=True, outputs=[wish]))
    output = {**found["outputs"][0], "shape": [int(size) for size in found["outputs"][0].get("shape", [])]}
    wanted(output.get("datatype") == "BYTES", f"datatype {shown(output.get('datatype'))}")
    raw = found.get("raw_output_contents")
    texts = output_elements(output, raw[0] if raw else None)
    subject.agree({name: texts}, {name: over_http}, OVER_HTTP)


def priority(subject: Subject) -> None:
    """Priority and timeout are taken as whole numbers of either type, and as nothing else."""
    for kind in ("int64_param", "uint64_param"):
        parameters = {"priority": {kind: 1}, "timeout": {kind: 60_000_000}}
        answered(subject, "ModelInfer", infer_request(subject, raw=True, parameters=parameters))
    wrong = {"priority": {"string_param": "high"}}
    found = call(subject, "ModelInfer", infer_request(subject, raw=True, parameters=wrong))
    said = str(found) if isinstance(found, Refusal) else "an answer"
    wanted(isinstance(found, Refusal) and found.code in CLIENTS, f"{said} for the priority 'high'")


def _check(
    id: str, clause: str, run: Callable[[Subject], None], extension: str, where: str = "", level: Level = "must"
) -> Check:
    return Check(f"grpc.{id}", clause, where or f"Triton's extension_{extension}.md", run, level, extension)


PROTO = "Triton's grpc_service.proto"

CHECKS = (
    _check("stream", "requests of a stream are answered as they are alone", stream, "stream", PROTO),
    _check(
        "health", "the server is SERVING, no service is NOT_FOUND", health, "grpc.health.v1", "gRPC health checking"
    ),
    _check("classification", "the best classes as over HTTP", classification, "classification"),
    _check("repository.index", "RepositoryIndex lists the models", repository_index, "model_repository"),
    _check("repository.load", "no model cannot be loaded", repository_load, "model_repository", level="should"),
    _check("statistics", "ModelStatistics count", statistics, "statistics"),
    _check("configuration", "inputs and outputs as in the metadata", configuration, "model_configuration"),
    _check("schedule_policy", "priority and timeout are whole numbers", priority, "schedule_policy"),
)
