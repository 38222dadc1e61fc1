"""What a server offers beyond the core, and only what it lists; nothing here changes what is served."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from modelmill.conform import binary, tensors
from modelmill.conform.body import parts
from modelmill.conform.check import Check, Level
from modelmill.conform.core import NOBODY
from modelmill.conform.deviation import LeftOut, shown, wanted
from modelmill.conform.subject import FIRST, Subject


def classification(subject: Subject) -> None:
    """The best classes of an output as texts, of every row."""
    # Where requests are not joined, classes are those of the whole output: of one row that is the same.
    rows, expected = (FIRST, subject.usual) if subject.batch_size() == 0 else subject.several
    name = ranked(subject)
    shape = _shape(subject, rows, name)
    width = math.prod(shape[1:])
    request = subject.request(rows, outputs=[{"name": name, "parameters": {"classification": CLASSES}}])
    output = tensors.joined(*parts(subject.infer(request)))["outputs"][0]
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
    check_growth(before, lambda: figures(subject))


def statistics_rows(subject: Subject) -> None:
    """A request of two rows counts as two inferences."""
    rows, _ = subject.several
    if len(rows) < 2:
        raise LeftOut("the model takes a fixed number of rows")
    before = figures(subject)
    subject.answered(subject.request(rows))
    check_growth(before, lambda: figures(subject), len(rows))


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


SOON_S = 1.0
"""A server of several processes may add up their figures a moment later."""


def check_growth(before: dict[str, int], read: Callable[[], dict[str, int]], rows: int = 1) -> None:
    """Raise Deviation where figures do not grow by a request of so many rows; what a cache answers was not run."""
    end = time.monotonic() + SOON_S
    while True:
        after = read()
        grown = {key: after[key] - before[key] for key in after}
        has_run = grown["inference_count"] >= rows and grown["execution_count"] >= 1
        if grown["success"] >= 1 and (grown["cache_hit"] >= 1 or has_run):
            return
        came = f"{shown(grown)} more after a request of {rows} row{'s' * (rows > 1)}"
        wanted(time.monotonic() < end, came)
        time.sleep(SOON_S / 20)


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


UNLISTED = ("stream", "grpc.health.v1")
"""Extensions that have no name in a server's list: it has them where it does not answer UNIMPLEMENTED."""


def _check(
    id: str, clause: str, run: Callable[[Subject], None], extension: str, where: str = "", level: Level = "must"
) -> Check:
    document = where or f"Triton's extension_{extension.removeprefix('system_')}.md"
    return Check(id, clause, document, run, level, extension)


CHECKS = (
    *binary.CHECKS,
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
