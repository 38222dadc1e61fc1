"""The page at `/metrics`: our figures, and the same under the names that Triton has for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from modelmill.serve.signals.exposition import Labels, buckets, gauge, head, sample
from modelmill.serve.signals.kinds import PHASE_SECONDS, PHASES, ROWS, SECONDS, Series, by_kind, reason

Parts = Mapping[str, Sequence[tuple[Sequence[str], Sequence[float]]]]
Counted = Iterable[tuple[Labels, float]]


def page(series: Series, meanings: Mapping[str, str]) -> str:
    """Series as Prometheus reads them, with the names that Triton has for the same figures beside ours.

    A histogram is there from its first value on: of a thousand models that nobody asks they would be nine tenths of the
    page. Triton's counters are there, and 0, as soon as a version is in memory, as they are in Triton.
    """
    parts = {what: list(found) for what, found in by_kind(series).items()}
    lines = _counters("modelmill_requests_total", "Answered inference requests.", _answers(parts))
    titled = (
        ("duration", "modelmill_request_duration_seconds", "Time from the request to its answer.", SECONDS),
        ("rows", "modelmill_batch_rows", "Rows in a run of a model, of one request or several.", ROWS),
        *((name, f"modelmill_{name}_seconds", f"Time of the phase {name}.", PHASE_SECONDS) for name in PHASES),
    )
    for what, name, meaning, bounds in titled:
        lines += head(name, "histogram", meaning)
        for labels, values in parts.get(what, ()):
            if any(values):
                lines += buckets(name, _which(labels), bounds, values)
    for (name,), values in parts.get("gauge", ()):
        lines += gauge(name, meanings.get(name, name), values[0])
    return "\n".join([*lines, *_aliases(parts)]) + "\n"


def _answers(parts: Parts) -> Counted:
    for (model, version, face, code), values in parts.get("answers", ()):
        yield (*_which((model, version)), ("face", face), ("code", code)), values[0]


def _counters(name: str, meaning: str, found: Counted) -> list[str]:
    return [*head(name, "counter", meaning), *(sample(name, labels, _whole(value)) for labels, value in found)]


def _aliases(parts: Parts) -> list[str]:
    """Triton's counters, from the same figures: microseconds, and labels `model` and `version`."""
    good: dict[Labels, float] = {}
    bad: dict[Labels, float] = {}
    for (model, version, _, code), values in parts.get("answers", ()):
        if model:
            which = _which((model, version))
            side, labels = (good, which) if code.startswith("2") else (bad, (*which, ("reason", reason(int(code)))))
            side[labels] = side.get(labels, 0.0) + values[0]

    def sums(what: str, of: Callable[[Sequence[float]], float]) -> Counted:
        return [(_which(labels), of(values)) for labels, values in parts.get(what, ())]

    def micros(values: Sequence[float]) -> float:
        return round(values[-1] * 1e6)

    lines = _counters("nv_inference_request_success", "Requests that were answered.", good.items())
    lines += _counters("nv_inference_request_failure", "Requests that were refused or failed.", bad.items())
    waiting = {_which(labels): 0.0 for labels, _ in parts.get("duration", ())}
    waiting.update((_which(labels), values[0]) for labels, values in parts.get("pending", ()))
    name = "nv_inference_pending_request_count"
    lines += head(name, "gauge", "Requests that wait for a run.")
    lines += [sample(name, labels, _whole(value)) for labels, value in waiting.items()]
    rows = sums("inferred", lambda values: values[0])
    lines += _counters("nv_inference_count", "Rows of requests that were answered.", rows)
    lines += _counters("nv_inference_exec_count", "Runs of models.", sums("rows", lambda values: sum(values[:-1])))
    for what, name in (
        ("duration", "request"),
        ("queue", "queue"),
        ("batch", "compute_input"),
        ("compute", "compute_infer"),
        ("encode", "compute_output"),
    ):
        lines += _counters(f"nv_inference_{name}_duration_us", f"Microseconds of {name}, summed.", sums(what, micros))
    return lines


def _which(labels: Sequence[str]) -> Labels:
    return (("model", labels[0]), ("version", labels[1]))


def _whole(value: float) -> float:
    return int(value) if float(value).is_integer() else value
