"""What a server offers beyond the core, and only what it lists; nothing here changes what is served."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from modelmill.conform import tensors
from modelmill.conform.check import BINARY, Check, Level
from modelmill.conform.core import NOBODY
from modelmill.conform.deviation import LeftOut, shown, wanted
from modelmill.conform.http import Answer
from modelmill.conform.subject import Subject

LENGTH = "inference-header-content-length"


def binary_request(subject: Subject, in_json: tuple[str, ...] = (), **rest: Any) -> tuple[bytes, dict[str, str]]:
    """A request with its tensors as bytes, but those `in_json`; body and headers."""
    listed: list[dict[str, Any]] = []
    tail = b""
    for tensor in subject.inputs:
        if tensor["name"] in in_json:
            listed.append(tensors.in_json(tensor))
            continue
        data = tensors.in_bytes(tensor)
        tail += data
        shape = tensors.sizes(tensor, 1)
        parameters = {"binary_data_size": len(data)}
        listed.append(
            {"name": tensor["name"], "shape": shape, "datatype": tensor["datatype"], "parameters": parameters}
        )
    head = orjson.dumps({"inputs": listed, **rest})
    return head + tail, {"content-type": "application/octet-stream", LENGTH: str(len(head))}


def _read(subject: Subject, answer: Answer) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """The JSON part of an answer, and the elements of its outputs. Raises Deviation."""
    wanted(answer.status == 200, str(answer))
    length = answer.headers.get(LENGTH)
    if length is None:
        document = answer.object()
        subject.check_answer(document)
        return document, tensors.outputs_of(document)
    wanted(length.isdigit() and int(length) <= len(answer.body), f"{LENGTH} {length!r} of {len(answer.body)} bytes")
    head, tail = answer.body[: int(length)], answer.body[int(length) :]
    document = Answer(200, answer.headers, head).object()
    subject.check_answer(document)
    return document, tensors.outputs_of(document, tail)


def _as_usual(subject: Subject, found: dict[str, list[Any]]) -> None:
    for name, elements in found.items():
        usual = subject.usual[name]
        wanted(tensors.same(elements, usual), f"{name} is {shown(elements)}, in JSON {shown(usual)}")


def binary_inputs(subject: Subject) -> None:
    """Bytes in, JSON out."""
    body, headers = binary_request(subject)
    document, found = _read(subject, subject.infer(body, headers=headers))
    inside = [tensor["name"] for tensor in document["outputs"] if "data" not in tensor]
    wanted(not inside, f"{shown(inside)} as bytes, which nobody asked for")
    _as_usual(subject, found)


def binary_outputs(subject: Subject) -> None:
    """Outputs as bytes, asked for one by one."""
    asked = [{"name": name, "parameters": {"binary_data": True}} for name in subject.outputs]
    document, found = _read(subject, subject.infer(subject.request(outputs=asked)))
    inside = [tensor["name"] for tensor in document["outputs"] if "data" in tensor]
    wanted(not inside, f"{shown(inside)} in JSON")
    _as_usual(subject, found)


def binary_all_outputs(subject: Subject) -> None:
    """All outputs as bytes, by a parameter of the request, but for those that say otherwise."""
    first = next(iter(subject.outputs))
    asked = [
        {"name": name, **({"parameters": {"binary_data": False}} if name == first else {})} for name in subject.outputs
    ]
    answer = subject.infer(subject.request(outputs=asked, parameters={"binary_data_output": True}))
    document, found = _read(subject, answer)
    inside = [tensor["name"] for tensor in document["outputs"] if "data" in tensor]
    wanted(inside == [first], f"{shown(inside)} in JSON; {first} alone was asked for so")
    _as_usual(subject, found)


def binary_mixed(subject: Subject) -> None:
    """Some inputs as bytes, some in JSON."""
    if len(subject.inputs) < 2:
        raise LeftOut("the model has one input")
    body, headers = binary_request(subject, (subject.inputs[0]["name"],))
    _as_usual(subject, _read(subject, subject.infer(body, headers=headers))[1])


def binary_raw(subject: Subject) -> None:
    """The body is the one input."""
    inputs = subject.inputs
    if len(inputs) != 1 or sum(size < 0 for size in inputs[0]["shape"]) > 1:
        raise LeftOut("the model has several inputs, or several sizes that may be any")
    headers = {"content-type": "application/octet-stream", LENGTH: "0"}
    document, found = _read(subject, subject.infer(tensors.in_bytes(inputs[0]), headers=headers))
    inside = [tensor["name"] for tensor in document["outputs"] if "data" in tensor]
    wanted(not inside, f"{shown(inside)} in JSON")
    _as_usual(subject, found)


def binary_lies(subject: Subject) -> None:
    """Lengths that lie are refused."""
    body, headers = binary_request(subject)
    for name, value in (("a length beyond the body", str(len(body) + 1)), ("no number", "x"), ("below 0", "-1")):
        answer = subject.infer(body, headers={**headers, LENGTH: value})
        wanted(400 <= answer.status < 500, f"{answer.status} for {name}")
    answer = subject.infer(body[:-1], headers=headers)
    wanted(400 <= answer.status < 500, f"{answer.status} for a byte too few")
    answer = subject.infer(body + b"\0", headers=headers)
    wanted(400 <= answer.status < 500, f"{answer.status} for a byte too many")


def classification(subject: Subject) -> None:
    """The classes of an output as texts."""
    named = [name for name, tensor in subject.outputs.items() if tensor["datatype"].startswith("FP")]
    if not named:
        raise LeftOut("the model has no output of floats")
    request = subject.request(outputs=[{"name": named[0], "parameters": {"classification": 1}}])
    found = subject.infer(request).object()
    output = found["outputs"][0]
    wanted(output.get("datatype") == "BYTES", f"datatype {shown(output.get('datatype'))}")
    for text in tensors.flat(output):
        value, _, rest = text.partition(":")
        index = rest.partition(":")[0]
        wanted(index.isdigit() and _is_number(value), f"the class {text!r}, not VALUE:INDEX[:LABEL]")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def repository_index(subject: Subject) -> None:
    """The index lists the model."""
    answer = subject.http.ask("POST", "v2/repository/index", b"{}")
    wanted(answer.status == 200, str(answer))
    listed = answer.json()
    wanted(isinstance(listed, list), f"an index that is no list: {shown(listed)}")
    for entry in listed:
        wanted(isinstance(entry, dict) and isinstance(entry.get("name"), str), f"the entry {shown(entry)}")
        for key in ("version", "state", "reason"):
            wanted(isinstance(entry.get(key, ""), str), f"{key} {shown(entry.get(key))}")
    wanted(subject.model in [entry["name"] for entry in listed], f"no entry for {subject.model}")


def repository_load(subject: Subject) -> None:
    """A model that is not there cannot be loaded, and that is the client's fault."""
    answer = subject.http.ask("POST", f"v2/repository/models/{NOBODY}/load", b"{}")
    wanted(400 <= answer.status < 500, str(answer))
    wanted(isinstance(answer.json().get("error"), str), str(answer))


def statistics(subject: Subject) -> None:
    """What the model has done, and that it grows."""
    before = _count(subject)
    subject.answered(subject.request())
    after = _count(subject)
    wanted(after > before, f"inference_stats.success.count is {after} after a request, {before} before")


def _count(subject: Subject) -> int:
    found = subject.http.ask("GET", subject.path(call="stats")).object()
    listed = found.get("model_stats")
    wanted(isinstance(listed, list) and bool(listed), f"model_stats {shown(listed)}")
    assert isinstance(listed, list), "it was looked at"
    total = 0
    for entry in listed:
        wanted(entry.get("name") == subject.model, f"name {shown(entry.get('name'))}")
        success = (entry.get("inference_stats") or {}).get("success") or {}
        sound = type(success.get("count")) is int and type(success.get("ns")) is int
        wanted(sound, f"inference_stats.success {shown(success)}")
        total += success["count"]
    return total


def configuration(subject: Subject) -> None:
    """The model as its configuration describes it."""
    found = subject.http.ask("GET", subject.path(call="config")).object()
    wanted(found.get("name") == subject.model, f"name {shown(found.get('name'))}")
    for key, names in (("input", [t["name"] for t in subject.inputs]), ("output", list(subject.outputs))):
        listed = found.get(key)
        wanted(isinstance(listed, list), f"{key} {shown(listed)}")
        assert isinstance(listed, list), "it was looked at"
        came = sorted(str(tensor.get("name")) for tensor in listed)
        wanted(came == sorted(names), f"{key} {shown(came)}, metadata {shown(names)}")
        types = {str(tensor.get("data_type")) for tensor in listed}
        wanted(all(kind.startswith("TYPE_") for kind in types), f"data_type {shown(sorted(types))}")


def priority(subject: Subject) -> None:
    """Priority and timeout are taken, and must be numbers."""
    subject.answered(subject.request(parameters={"priority": 1, "timeout": 60_000_000}))
    answer = subject.infer(subject.request(parameters={"priority": "high"}))
    wanted(400 <= answer.status < 500, f"{answer.status} for the priority 'high'")


def shared_memory(subject: Subject) -> None:
    """Its status can be asked for."""
    answer = subject.http.ask("GET", "v2/systemsharedmemory/status")
    wanted(answer.status == 200 and isinstance(answer.json(), list), str(answer))


def logging(subject: Subject) -> None:
    """Its settings can be asked for."""
    subject.http.ask("GET", "v2/logging").object()


def trace(subject: Subject) -> None:
    """Its settings can be asked for."""
    subject.http.ask("GET", "v2/trace/setting").object()


def is_listed(extension: str, subject: Subject) -> bool:
    """Whether a server lists an extension, by that name or with more in brackets."""
    return any(name == extension or name.startswith(f"{extension}(") for name in subject.extensions)


TENSORS = "binary_tensor_data"


def _check(
    id: str, clause: str, run: Callable[[Subject], None], extension: str, where: str = "", level: Level = "must"
) -> Check:
    document = where or f"Triton's extension_{extension.removeprefix('system_')}.md"
    return Check(id, clause, document, run, level, extension)


CHECKS = (
    _check("binary.inputs", "tensors may follow the JSON as bytes", binary_inputs, TENSORS, BINARY),
    _check("binary.outputs", "outputs come as bytes by binary_data", binary_outputs, TENSORS, BINARY),
    _check("binary.outputs.all", "binary_data goes before binary_data_output", binary_all_outputs, TENSORS, BINARY),
    _check("binary.mixed", "some inputs may be JSON, some bytes", binary_mixed, TENSORS, BINARY),
    _check("binary.raw", "with the length 0 the body is the input", binary_raw, TENSORS, BINARY),
    _check("binary.lies", "lengths that lie are 4xx", binary_lies, TENSORS, BINARY),
    _check("classification", "classes are texts VALUE:INDEX[:LABEL]", classification, "classification"),
    _check("repository.index", "the index lists the models, and their state", repository_index, "model_repository"),
    _check("repository.load", "no model cannot be loaded: 4xx", repository_load, "model_repository", level="should"),
    _check("statistics", "model_stats count what succeeded", statistics, "statistics"),
    _check("configuration", "inputs and outputs as in the metadata", configuration, "model_configuration"),
    _check("schedule_policy", "priority and timeout are whole numbers", priority, "schedule_policy"),
    _check("shared_memory", "the status of system shared memory is a list", shared_memory, "system_shared_memory"),
    _check("logging", "v2/logging gives the settings", logging, "logging"),
    _check("trace", "v2/trace/setting gives the settings", trace, "trace"),
)
