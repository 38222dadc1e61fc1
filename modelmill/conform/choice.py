"""Which model is asked: the one that was named, if the server has it, or one that it lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelmill.conform.deviation import Deviation, LeftOut
from modelmill.conform.http import Answer, Http
from modelmill.conform.subject import Subject
from modelmill.conform.tensors import HALVES
from modelmill.errors import UnknownName, WorkError


def check_model(http: Http, name: str) -> None:
    """Raise UnknownName where a server knows nothing of a model, WorkError where it tells nobody."""
    try:
        answers = [http.ask("GET", Subject(http, name).path("", call)) for call in ("", "ready")]
    except Deviation:
        return
    _check_entry(http, answers[0])
    if all(400 <= answer.status < 500 for answer in answers):
        listed = _index(http)[0]
        if name not in listed:
            raise UnknownName.among(f"--model {name}", f"model at {http.url}", name, listed)


def _check_entry(http: Http, answer: Answer) -> None:
    """Raise WorkError where a server does not let its client in."""
    if answer.status in (401, 403):
        hint = "Give a key that may: --header 'authorization: Bearer KEY'."
        raise WorkError(http.url, f"answers {answer}", hint)


def choose_model(http: Http) -> str:
    """A model that the server has, by its repository's index. Raises WorkError where it names none."""
    names, said = _index(http)
    usable = [name for name in names if _is_plain(http, name)]
    if usable or names:
        return (usable or names)[0]
    raise WorkError(http.url, f"does not say which models it has: {said}", "Name one: --model NAME.")


def _index(http: Http) -> tuple[Sequence[str], str]:
    """The models that a server says it has, and what it said where it names none. Raises WorkError."""
    said = ""
    for method, path, body in (("POST", "v2/repository/index", b"{}"), ("GET", "v2/models", None)):
        try:
            answer = http.ask(method, path, body)
            _check_entry(http, answer)
            names = _names(answer.json()) if answer.status == 200 else []
            said = said or str(answer)
        except Deviation as error:
            names, said = [], said or str(error)
        if names:
            return names, ""
    return (), said


def _names(listed: Any) -> Sequence[str]:
    """The names of the models that are ready, in an index."""
    if isinstance(listed, dict):
        listed = listed.get("models")
    if not isinstance(listed, list):
        return []
    ready = [entry for entry in listed if not isinstance(entry, dict) or entry.get("state", "READY") == "READY"]
    names = [entry.get("name") if isinstance(entry, dict) else entry for entry in ready]
    return [name for name in names if isinstance(name, str)]


def _is_plain(http: Http, name: str) -> bool:
    """Whether a model can be asked in JSON, with any number of rows."""
    subject = Subject(http, name)
    try:
        in_json = all(tensor["datatype"] not in HALVES for tensor in subject.inputs)
        return in_json and subject.batches and bool(subject.request())
    except LeftOut:
        return False
