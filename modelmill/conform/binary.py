"""Tensors that follow the JSON as bytes: the extension binary_tensor_data."""

from __future__ import annotations

from collections.abc import Callable

from modelmill.conform import tensors
from modelmill.conform.body import LENGTH, OCTETS, packed, parts
from modelmill.conform.check import BINARY, Check
from modelmill.conform.deviation import LeftOut, shown, wanted
from modelmill.conform.http import Answer
from modelmill.conform.subject import FIRST, Document, Elements, Subject


def binary_request(subject: Subject, numbers: tuple[int, ...] = FIRST, in_json: tuple[str, ...] = ()) -> Document:
    """A request of rows with its tensors as bytes, but those `in_json`."""
    request, rows = subject.request(numbers), subject.rows(numbers)
    listed = [
        entry if tensor["name"] in in_json else {**entry, "data": tensors.in_bytes(tensor, rows, place)}
        for place, (entry, tensor) in enumerate(zip(request["inputs"], subject.inputs, strict=True))
    ]
    return {**request, "inputs": listed}


def _read(subject: Subject, answer: Answer) -> tuple[Document, Elements]:
    """The JSON part of an answer, and the elements of its outputs. Raises Deviation."""
    document, tail = parts(answer)
    subject.check_answer(document)
    tensors.check_parameters(document)
    return document, tensors.outputs_of(document, tail)


def binary_inputs(subject: Subject) -> None:
    """Bytes in, JSON out."""
    rows, expected = subject.several
    document, found = _read(subject, subject.infer(binary_request(subject, rows)))
    inside = [tensor["name"] for tensor in document["outputs"] if "data" not in tensor]
    wanted(not inside or subject.answers_bytes, f"{shown(inside)} as bytes, which nobody asked for")
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
    plain = [name for name, tensor in subject.outputs.items() if tensor["datatype"] not in tensors.HALVES]
    if not plain:
        raise LeftOut("JSON has no form for any output")
    first = plain[0]
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
    plain = [tensor["name"] for tensor in subject.inputs if tensor["datatype"] not in tensors.HALVES]
    if not plain:
        raise LeftOut("JSON has no form for any input")
    rows, expected = subject.several
    subject.agree(_read(subject, subject.infer(binary_request(subject, rows, (plain[0],))))[1], expected)


def binary_raw(subject: Subject) -> None:
    """The body is the one input."""
    inputs = subject.inputs
    if len(inputs) != 1 or sum(size < 0 for size in inputs[0]["shape"]) > 1:
        raise LeftOut("the model has several inputs, or several sizes that may be any")
    if inputs[0]["datatype"] == "BYTES" and any(abs(size) != 1 for size in inputs[0]["shape"]):
        raise LeftOut("a raw body is one string, and the model takes several")
    body = tensors.alone(inputs[0], subject.rows())
    document, found = _read(subject, subject.infer(body, headers={**OCTETS, LENGTH: "0"}))
    inside = [tensor["name"] for tensor in document["outputs"] if "data" in tensor]
    wanted(not inside, f"{shown(inside)} in JSON")
    subject.agree(found, subject.usual)


def binary_lies(subject: Subject) -> None:
    """Lengths that lie are refused."""
    body, headers = packed(binary_request(subject))
    for name, value in (("a length beyond the body", str(len(body) + 1)), ("no number", "x"), ("below 0", "-1")):
        answer = subject.infer(body, headers={**headers, LENGTH: value})
        wanted(400 <= answer.status < 500, f"{answer.status} for {name}")
    answer = subject.infer(body[:-1], headers=headers)
    wanted(400 <= answer.status < 500, f"{answer.status} for a byte too few")
    answer = subject.infer(body + b"\0", headers=headers)
    wanted(400 <= answer.status < 500, f"{answer.status} for a byte too many")


def _check(id: str, clause: str, run: Callable[[Subject], None]) -> Check:
    return Check(id, clause, BINARY, run, "must", "binary_tensor_data")


CHECKS = (
    _check("binary.inputs", "tensors may follow the JSON as bytes", binary_inputs),
    _check("binary.outputs", "outputs come as bytes by binary_data", binary_outputs),
    _check("binary.type", "what has bytes is sent as application/octet-stream", binary_type),
    _check("binary.outputs.all", "binary_data goes before binary_data_output", binary_all_outputs),
    _check("binary.mixed", "some inputs may be JSON, some bytes", binary_mixed),
    _check("binary.raw", "with the length 0 the body is the input", binary_raw),
    _check("binary.lies", "lengths that lie are 4xx", binary_lies),
)
