"""What a server offers beyond the core, and only what it lists; nothing here changes what is served."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import orjson

from modelmill.conform import tensors
from modelmill.conform.check import BINARY, Check, Level
from modelmill.conform.core import NOBODY
from modelmill.conform.deviation import LeftOut, shown, wanted
from modelmill.conform.http import Answer
from modelmill.conform.subject import FIRST, Subject

LENGTH = "inference-header-content-length"


def binary_request(
    subject: Subject, numbers: tuple[int, ...] = FIRST, in_json: tuple[str, ...] = ()
) -> tuple[bytes, dict[str, str]]:
    """A request of rows with its tensors as bytes, but those `in_json`; body and headers."""
    listed: list[dict[str, Any]] = []
    tail, rows = b"", subject.rows(numbers)
    for place, tensor in enumerate(subject.inputs):
        if tensor["name"] in in_json:
            listed.append(tensors.in_json(tensor, rows, place))
            continue
        data = tensors.in_bytes(tensor, rows, place)
        tail += data
        parameters = {"binary_data_size": len(data)}
        known = {"name": tensor["name"], "shape": rows.shape(tensor), "datatype": tensor["datatype"]}
        listed.append({**known, "parameters": parameters})
    head = orjson.dumps({"inputs": listed})
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
    tensors.check_parameters(document)
    return document, tensors.outputs_of(document, tail)


def binary_inputs(subject: Subject) -> None:
    """Bytes in, JSON out."""
    rows, expected = subject.several
    body, headers = binary_request(subject, rows)
    document, found = _read(subject, subject.infer(body, headers=headers))
    inside = [tensor["name"] for tensor in document["outputs"] if "data" not in tensor]
    wanted(not inside, f"{shown(inside)} as bytes, which nobody asked for")
    subject.agree(found, expected)


def binary_outputs(subject: Subject) -> None:
    """Outputs as bytes, asked for one by one."""
    rows, expected = subject.several
    asked = [{"name": name, "parameters": {"binary_data": True}} for name in subject.outputs]
    document, found = _read(subject, subject.infer(subject.request(rows, outputs=asked)))
    inside = [tensor["name"] for tensor in document["outputs"] if "data" in tensor]
    wanted(not inside, f"{shown(inside)} in JSON")
    subject.agree(found, expected)


def binary_type(subject: Subject) -> None:
    """An answer with bytes says so."""
    asked = [{"name": name, "parameters": {"binary_data": True}} for name in subject.outputs]
    answer = subject.infer(subject.request(outputs=asked))
    wanted(answer.status == 200, str(answer))
    wanted(answer.media == "application/octet-stream", f"content-type {answer.headers.get('content-type', '')!r}")


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
    subject.agree(found, subject.usual)


def binary_mixed(subject: Subject) -> None:
    """Some inputs as bytes, some in JSON."""
    if len(subject.inputs) < 2:
        raise LeftOut("the model has one input")
    rows, expected = subject.several
    body, headers = binary_request(subject, rows, (subject.inputs[0]["name"],))
    subject.agree(_read(subject, subject.infer(body, headers=headers))[1], expected)


def binary_raw(subject: Subject) -> None:
    """The body is the one input."""
    inputs = subject.inputs
    if len(inputs) != 1 or sum(size < 0 for size in inputs[0]["shape"]) > 1:
        raise LeftOut("the model has several inputs, or several sizes that may be any")
    headers = {"content-type": "application/octet-stream", LENGTH: "0"}
    body = tensors.in_bytes(inputs[0], subject.rows())
    document, found = _read(subject, subject.infer(body, headers=headers))
    inside = [tensor["name"] for tensor in document["outputs"] if "data" in tensor]
    wanted(not inside, f"{shown(inside)} in JSON")
    subject.agree(found, subject.usual)


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
    """The best classes of an output as texts, of every row."""
    # Where requests are not joined, classes are those of the whole output: of one row that is the same.
    rows, expected = (FIRST, subject.usual) if subject.batch_size() == 0 else subject.several
    name = ranked(subject)
    shape = _shape(subject, rows, name)
    width = math.prod(shape[1:])
    request = subject.request(rows, outputs=[{"name": name, "parameters": {"classification": CLASSES}}])
    output = subject.infer(request).object()["outputs"][0]
    wanted(output.get("datatype") == "BYTES", f"datatype {shown(output.get('datatype'))}")
    texts, count = tensors.flat(output), min(CLASSES, width)
    wanted(len(texts) == count * shape[0], f"{shown(texts)} where {CLASSES} of {width} classes were asked for")
    for row in range(shape[0]):
        scores = expected[name][row * width : (row + 1) * width]
        _check_classes(texts[row * count : (row + 1) * count], scores)


CLASSES = 2
"""So many classes are asked for: with one alone neither their number nor their order can be seen."""


def ranked(subject: Subject) -> str:
    """An output of floats, of several a row where there is one. Raises LeftOut."""
    named = [name for name, tensor in subject.outputs.items() if tensor["datatype"].startswith("FP")]
    if not named:
        raise LeftOut("the model has no output of floats")
    wide = [name for name in named if len(subject.outputs[name]["shape"]) > 1]
    return (wide or named)[0]


def _shape(subject: Subject, rows: tuple[int, ...], name: str) -> list[int]:
    """The shape of an output, as it comes without classes. Raises LeftOut."""
    found = subject.answered(subject.request(rows, outputs=[{"name": name}]))
    shape: list[int] = found["outputs"][0]["shape"]
    if len(shape) < 2 or not math.prod(shape):
        raise LeftOut(f"{name} of the shape {shape} has one number a row")
    return shape


def _check_classes(texts: list[Any], scores: list[Any]) -> None:
    """Raise Deviation where texts are not the best of the scores, the best one first."""
    best = sorted((score for score in scores if score is not None), reverse=True)
    for rank, text in enumerate(texts):
        value, _, rest = text.partition(":")
        index = rest.partition(":")[0]
        wanted(index.isdigit() and _is_number(value), f"the class {text!r}, not VALUE:INDEX[:LABEL]")
        wanted(int(index) < len(scores), f"the class {text!r} of {len(scores)} scores")
        wanted(tensors.same([float(value)], [scores[int(index)]]), f"{text!r}, and the scores are {shown(scores)}")
        wanted(tensors.same([float(value)], best[rank : rank + 1]), f"{shown(texts)} of the scores {shown(scores)}")


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
    before = figures(subject)
    subject.answered(subject.request())
    check_growth(before, figures(subject))


def statistics_rows(subject: Subject) -> None:
    """A request of two rows counts as two inferences."""
    rows, _ = subject.several
    if len(rows) < 2:
        raise LeftOut("the model takes a fixed number of rows")
    before = figures(subject)
    subject.answered(subject.request(rows))
    check_growth(before, figures(subject), len(rows))


DURATIONS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
"""What inference_stats always have; figures of a cache only those servers have that keep one."""


def figures(subject: Subject) -> dict[str, int]:
    """The figures of all versions of the model together. Raises Deviation where one is missing."""
    found = subject.http.ask("GET", subject.path(call="stats")).object()
    listed = found.get("model_stats")
    wanted(isinstance(listed, list) and bool(listed), f"model_stats {shown(listed)}")
    assert isinstance(listed, list), "it was looked at"
    for entry in listed:
        wanted(entry.get("name") == subject.model, f"name {shown(entry.get('name'))}")
        wanted(isinstance(entry.get("version"), str), f"version {shown(entry.get('version'))}")
        for key in ("last_inference", "inference_count", "execution_count"):
            wanted(type(entry.get(key)) is int, f"{key} {shown(entry.get(key))}")
        for key in DURATIONS:
            duration = (entry.get("inference_stats") or {}).get(key) or {}
            sound = type(duration.get("count")) is int and type(duration.get("ns")) is int
            wanted(sound, f"inference_stats.{key} {shown(duration)}")
    return summed(listed)


def summed(listed: list[Any]) -> dict[str, int]:
    """How many rows, runs, requests and answers out of a cache there were, by all versions."""
    total = dict.fromkeys(("inference_count", "execution_count", "success", "cache_hit"), 0)
    for entry in listed:
        inside = entry.get("inference_stats") or {}
        for key in total:
            total[key] += int(entry.get(key, 0) if key.endswith("_count") else (inside.get(key) or {}).get("count", 0))
    return total


def check_growth(before: dict[str, int], after: dict[str, int], rows: int = 1) -> None:
    """Raise Deviation where figures did not grow by a request of so many rows; what a cache answers was not run."""
    grown = {key: after[key] - before[key] for key in after}
    came = f"{shown(grown)} more after a request of {rows} row{'s' * (rows > 1)}"
    wanted(grown["success"] >= 1, came)
    wanted(grown["cache_hit"] >= 1 or (grown["inference_count"] >= rows and grown["execution_count"] >= 1), came)


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


def is_offered(extension: str, subject: Subject) -> bool:
    """Whether a server lists an extension, by that name or with more in brackets, or it is one that nobody lists."""
    return extension in UNLISTED or any(
        name == extension or name.startswith(f"{extension}(") for name in subject.extensions
    )


TENSORS = "binary_tensor_data"

UNLISTED = ("stream", "grpc.health.v1")
"""Extensions that have no name in a server's list: it has them where it does not answer UNIMPLEMENTED."""


def _check(
    id: str, clause: str, run: Callable[[Subject], None], extension: str, where: str = "", level: Level = "must"
) -> Check:
    document = where or f"Triton's extension_{extension.removeprefix('system_')}.md"
    return Check(id, clause, document, run, level, extension)


CHECKS = (
    _check("binary.inputs", "tensors may follow the JSON as bytes", binary_inputs, TENSORS, BINARY),
    _check("binary.outputs", "outputs come as bytes by binary_data", binary_outputs, TENSORS, BINARY),
    _check("binary.type", "what has bytes is sent as application/octet-stream", binary_type, TENSORS, BINARY),
    _check("binary.outputs.all", "binary_data goes before binary_data_output", binary_all_outputs, TENSORS, BINARY),
    _check("binary.mixed", "some inputs may be JSON, some bytes", binary_mixed, TENSORS, BINARY),
    _check("binary.raw", "with the length 0 the body is the input", binary_raw, TENSORS, BINARY),
    _check("binary.lies", "lengths that lie are 4xx", binary_lies, TENSORS, BINARY),
    _check("classification", "the best classes, as texts VALUE:INDEX[:LABEL]", classification, "classification"),
    _check("repository.index", "the index lists the models, and their state", repository_index, "model_repository"),
    _check("repository.load", "no model cannot be loaded: 4xx", repository_load, "model_repository", level="should"),
    _check("statistics", "model_stats have their figures, and count", statistics, "statistics"),
    _check("statistics.rows", "inference_count counts every row", statistics_rows, "statistics", level="should"),
    _check("configuration", "inputs and outputs as in the metadata", configuration, "model_configuration"),
    _check("schedule_policy", "priority and timeout are whole numbers", priority, "schedule_policy"),
    _check("shared_memory", "the status of system shared memory is a list", shared_memory, "system_shared_memory"),
    _check("logging", "v2/logging gives the settings", logging, "logging"),
    _check("trace", "v2/trace/setting gives the settings", trace, "trace"),
)
