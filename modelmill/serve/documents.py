"""What the protocol says of the service and of its models, as plain values that every wire writes in its own way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modelmill.errors import NotServed, RequestError
from modelmill.release import __version__
from modelmill.serve import views
from modelmill.serve.access.caller import ANYONE, Caller
from modelmill.serve.access.veil import veiled
from modelmill.serve.models.catalogue import Catalogue
from modelmill.serve.models.endpoint import Endpoint
from modelmill.serve.request import flag
from modelmill.serve.signals.kinds import Series
from modelmill.serve.signals.statistics import NONE, by_version
from modelmill.serve.signals.statistics import statistics as done
from modelmill.signature import Field

Document = dict[str, Any]

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "parameters",
    "schedule_policy",
    "statistics",
)
"""What is offered beyond the core of the Open Inference Protocol."""

PLATFORM = "onnxruntime_onnx"
ENSEMBLE = "ensemble"
"""What the protocol calls a pipeline."""
FILE = "model.onnx"


def server() -> Document:
    """Who answers, and which extensions."""
    return {"name": "modelmill", "version": __version__, "extensions": list(EXTENSIONS)}


def metadata(endpoint: Endpoint, numbers: Sequence[int]) -> Document:
    """What a version takes and gives, and which versions there are."""
    sides = (("inputs", endpoint.signature.inputs), ("outputs", endpoint.signature.outputs))
    return {
        "name": endpoint.name,
        "versions": [str(number) for number in numbers],
        "platform": ENSEMBLE if endpoint.steps else PLATFORM,
        **{
            side: [{"name": f.name, "datatype": f.datatype, "shape": list(f.shape)} for f in fields]
            for side, fields in sides
        },
    }


def config(endpoint: Endpoint, batch_rows: int, caller: Caller) -> Document:
    """A version as Triton's configuration describes it: sizes leave the rows out where requests are joined."""
    if endpoint.steps:
        return _ensemble(endpoint, caller)
    batches = endpoint.lane.batches
    document: Document = {
        "name": endpoint.name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "max_batch_size": batch_rows if batches else 0,
        "input": [_tensor(field, batches) for field in endpoint.signature.inputs],
        "output": [_tensor(field, batches) for field in endpoint.signature.outputs],
        "default_model_filename": FILE,
    }
    if batches:
        document["dynamic_batching"] = {"max_queue_delay_microseconds": 0}
    return document


def _ensemble(endpoint: Endpoint, caller: Caller) -> Document:
    """A pipeline as Triton's configuration describes it, without the steps whose models do not exist for the caller."""
    steps: list[Document] = []
    for step in endpoint.steps:
        name, _, number = step.model.rpartition("@")
        if not caller.sees(name):
            continue
        pinned = {"model_name": name, "model_version": int(number)}
        steps.append({**pinned, "input_map": step.inputs, "output_map": step.outputs})
    return {
        "name": endpoint.name,
        "platform": ENSEMBLE,
        "max_batch_size": 0,
        "input": [_tensor(field, False) for field in endpoint.signature.inputs],
        "output": [_tensor(field, False) for field in endpoint.signature.outputs],
        "ensemble_scheduling": {"step": steps},
    }


def _tensor(field: Field, batches: bool) -> Document:
    datatype = "STRING" if field.datatype == "BYTES" else field.datatype
    dims = field.row if batches else field.shape
    return {"name": field.name, "data_type": f"TYPE_{datatype}", "dims": list(dims)}


def index(catalogue: Catalogue, ready: bool, caller: Caller = ANYONE) -> list[Document]:
    """The models that the caller sees, and unless `ready` those that are not in memory, or were unloaded."""
    states = [
        {"name": name, "version": str(number), "state": state, "reason": veiled(reason, caller)}
        for name, number, state, reason in catalogue.states()
        if caller.sees(name)
    ]
    served = [state for state in states if state["state"] == "READY"]
    return served if ready else [*served, *(state for state in states if state["state"] != "READY")]


def summaries(catalogue: Catalogue) -> list[Document]:
    """Every served model in a few words, as /api/models lists them."""
    return [
        {
            **views.summary(version, catalogue.numbers(version.name)),
            "problem": catalogue.problems.get(version.name, ""),
            "loaded": version.name in catalogue.served,
        }
        for version in catalogue.published(len(catalogue.known.numbers))
    ]


def described(catalogue: Catalogue, reference: str, caller: Caller) -> Document:
    """A model in full, as /api/models/NAME gives it. Raises NotServed."""
    version = catalogue.version(reference)
    document = views.detail(version, catalogue.shelf.versions(version.name))
    return {**document, "history": veiled(document["history"], caller)}


def report(catalogue: Catalogue, reference: str) -> bytes:
    """The HTML report of a version. Raises NotServed where there is none."""
    version = catalogue.version(reference)
    if "report.html" not in version.files:
        raise NotServed("report", f"{version.reference} has no report", "`modelmill build` and `compress` write one.")
    return catalogue.shelf.file(version, "report.html")


def check_load(parameters: Mapping[str, Any]) -> None:
    """Refuse what would load something else than what is published."""
    for name in parameters:
        raise RequestError(f"parameters.{name[:80]}", "is not supported", "Publish a version, and load the model then.")


def check_unload(parameters: Mapping[str, Any]) -> bool:
    """Whether the models that the unloaded one depends on are unloaded with it."""
    for name in parameters:
        if name != "unload_dependents":
            raise RequestError(f"parameters.{name[:80]}", "is not supported", "There is unload_dependents.")
    return flag("parameters.unload_dependents", parameters.get("unload_dependents", False))


def statistics(catalogue: Catalogue, endpoints: Iterable[Endpoint], series: Series) -> Document:
    """What versions have done since the service started, in all of its processes, and the bytes that they take here."""
    sizes = catalogue.residents.sizes
    parts = by_version(series)
    return {
        "model_stats": [
            {
                "name": at.name,
                "version": at.label,
                **done(parts.get((at.name, at.label), NONE)),
                "memory_usage": [{"type": "CPU", "id": 0, "byte_size": sizes.get((at.name, at.number), 0)}],
            }
            for at in endpoints
        ]
    }
