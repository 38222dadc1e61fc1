"""The conformance kit: our service keeps to the protocol, and what others do wrong is seen."""

from __future__ import annotations

import json
import socket

import pytest

from modelmill.cli import run as run_inside
from modelmill.conform import core, extensions, robustness, rpc
from modelmill.conform.run import checks, examine, outcome, report
from modelmill.errors import OutOfBounds, WorkError


def deviating(url, only=None, **given):
    subject, _ = examine(url, timeout_s=20, **given)
    found = [outcome(check, subject) for check in checks(subject) if only is None or check.id in only]
    return {each.id: each.came for each in found if each.verdict == "deviates"}


@pytest.mark.parametrize("model", ["flowers", "pictures", "mixed"])
def test_our_service_keeps_to_the_protocol(service, model):
    assert deviating(service.url, grpc=service.grpc_url, model=model) == {}


def test_a_server_without_faults_has_none(faulty, offering):
    for app, url in (faulty, offering):
        app.fault = ""
        assert deviating(url) == {}


FAULTS = {
    "no live": {"core.live", "core.live.body"},
    "no live body": {"core.live.body"},
    "extensions are null": {"core.server"},
    "JSON as text": {"core.server.type"},
    "metadata as HTML": {"core.metadata"},
    "no platform": {"core.metadata"},
    "versions are numbers": {"core.metadata.versions"},
    "datatype of its own": {"core.metadata"},
    "no versions in paths": {"core.metadata.version", "core.model_ready.version", "core.infer.version"},
    "every model is ready": {"core.model_ready.unknown"},
    "no model_name": {"core.infer"},
    "model_version is a number": {"core.infer", "core.infer.version"},
    "elements are texts": {"core.infer.elements"},
    "one output": {"core.infer.outputs.all"},
    "all outputs": {"core.infer.outputs"},
    "no nested data": {"core.infer.nested"},
    "one row of many": {"core.infer.batch"},
    "columns first": {"core.infer.nested"},
    "nested columns first": {"core.infer.nested"},
    "no id": {"core.infer.id", "core.infer.version"},
    "no id with a version": {"core.infer.version"},
    "an id that is a number": {"core.infer.response", "core.infer.id.none"},
    "an id of its own": {"core.infer.id.none"},
    "parameters are a list": {"core.infer.response"},
    "parameters of an output nest": {"core.infer.response"},
    "answers as HTML": {"core.infer.type"},
    "metadata of any version": {"core.error.metadata"},
    "parameters are refused": {"core.infer.parameters"},
    "inputs by place": {"core.infer.order"},
    "errors as text": {"core.error.infer", "core.error.metadata", "core.error.model", "core.error.version"},
    "unknown is 400": {"core.error.not_found"},
    "lists what it has not": {"statistics", "statistics.rows"},
    "no JSON is 500": {"robustness.body.text"},
    "client errors as 500": {"robustness.inputs.missing", "robustness.input.shape.negative", "robustness.id.number"},
    "lengths are not looked at": {"robustness.input.data.longer"},
    "unknown outputs": {"robustness.outputs.unknown"},
    "NaN is taken": {"robustness.input.data.nan"},
}
"""What a server may do wrong: the checks that see it. Those of robustness are run where they are named."""

OFFERED = {
    "big-endian": {"binary.inputs", "binary.mixed"},
    "bytes as text": {"binary.type"},
    "one class": {"classification"},
    "the worst classes": {"classification"},
    "scores of others": {"classification"},
    "success alone": {"statistics", "statistics.rows"},
    "no inferences": {"statistics", "statistics.rows"},
    "inferences are requests": {"statistics.rows"},
}
"""What a server may do wrong in extensions."""

BROAD = {
    "shape without the batch": "core.infer",
    "outputs as float64": "core.infer",
    "lists of another shape": "core.infer.elements",
}
"""Faults after which a server cannot be asked much more, and the first check that sees them."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_seen_and_nothing_else(faulty, fault):
    app, url = faulty
    app.fault = fault
    plain = {check.id for check in (*core.CHECKS, *extensions.CHECKS)}
    assert set(deviating(url, plain | FAULTS[fault], model="add")) == FAULTS[fault]


@pytest.mark.parametrize("fault", OFFERED)
def test_a_fault_in_an_extension_is_seen_and_breaks_what_the_server_says_of_itself(offering, fault):
    app, url = offering
    app.fault = fault
    subject, _ = examine(url)
    found = [outcome(check, subject) for check in checks(subject) if check.group != "robustness"]
    assert {each.id for each in found if each.verdict == "deviates"} == OFFERED[fault]
    assert report(subject, found)["conformant"] == (fault == "inferences are requests")


SILENT = {
    "answers that say nothing": ("core.infer.data", "the same answer"),
    "other answers each time": ("core.infer.nested", "other elements each time"),
    "zeros alone": ("core.infer.nested", "holds for zeros"),
    "the first row again": ("core.infer.batch.alone", "these do: sum is"),
    "one answer for all rows": ("core.infer.batch", "max_batch_size is 0"),
}
"""Models of which no answer tells a wrong server from a right one: the check that is left out, and its words."""


@pytest.mark.parametrize("fault", SILENT)
def test_a_model_of_which_answers_say_little_is_not_called_wrong(offering, fault):
    app, url = offering
    app.fault = fault
    subject, _ = examine(url)
    found = [outcome(check, subject) for check in checks(subject) if check.group != "robustness"]
    assert [each for each in found if each.verdict == "deviates"] == []
    said = {each.id: each.came for each in found if each.verdict == "left out"}
    name, words = SILENT[fault]
    assert words in said[name]


def test_floats_differ_where_whole_numbers_must_not(offering):
    app, url = offering
    app.fault = "whole numbers are zeros"
    subject, _ = examine(url)
    request = subject.request()
    assert subject.filling == "floats"
    assert [tensor["data"] for tensor in request["inputs"]] == [[3.8037109375, 1.607421875], [0]]
    assert deviating(url, {check.id for check in (*core.CHECKS, *extensions.CHECKS)}) == {}


def test_a_server_still_lives_where_its_model_answers_at_random(offering):
    app, url = offering
    app.fault = "other answers each time"
    subject, _ = examine(url)
    found = outcome(robustness.CHECKS[-1], subject)
    assert (found.verdict, "other elements each time" in found.came) == ("left out", True)
    app.fault = ""
    assert subject.usual
    found = outcome(robustness.CHECKS[-1], subject)
    assert (found.verdict, "before" in found.came) == ("deviates", True)


@pytest.mark.parametrize("fault", BROAD)
def test_a_fault_in_every_answer_is_seen(faulty, fault):
    app, url = faulty
    app.fault = fault
    assert BROAD[fault] in deviating(url, {check.id for check in core.CHECKS})


def test_the_command_says_what_deviates_and_ends_with_1(faulty, capsys):
    app, url = faulty
    app.fault = "no id"
    assert run_inside(["conform", url]) == 1
    out = capsys.readouterr().out
    assert "MUST   core.infer.id" in out
    assert "the id of the request is returned (inference_rest.md" in out
    assert "The server does not conform" in out


def test_the_command_ends_with_0_and_gives_one_document(service, capsys):
    assert run_inside(["conform", service.url, "--grpc", service.grpc_url, "--model", "flowers", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["conformant"]
    assert found["server"]["name"] == "modelmill"
    ids = [check["id"] for check in found["checks"]]
    assert {check.id for check in (*core.CHECKS, *robustness.CHECKS, *rpc.CHECKS)} <= set(ids)
    assert len(ids) == len(set(ids))
    assert found["counts"]["holds"] > 90


def test_what_may_deviate_does_not_make_a_core_fail(faulty):
    app, url = faulty
    app.fault = "no live body"
    subject, outcomes = examine(url)
    found = report(subject, [each for each in outcomes if each.group == "core"])
    assert (found["conformant"], found["counts"]["deviates"]) == (True, 1)


def test_no_server_and_no_url_are_said(faulty):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        with pytest.raises(WorkError, match="cannot be reached"):
            examine(f"http://127.0.0.1:{listener.getsockname()[1]}")
    with pytest.raises(OutOfBounds, match="not the URL"):
        examine("ftp://somewhere")
