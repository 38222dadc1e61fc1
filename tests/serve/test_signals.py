"""What the service tells of itself: status against objectives, the access log, traces."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import logging
import math
import sys
import threading
import urllib.error
import urllib.request
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from patience import eventually

from modelmill.client import Client
from modelmill.errors import MissingExtra, OutOfBounds, UnknownName, WorkError
from modelmill.protocol.schema import tagged
from modelmill.serve.server import Service
from modelmill.serve.signals.answer import Answer
from modelmill.serve.signals.draw import Draw
from modelmill.serve.signals.journal import Journal
from modelmill.serve.signals.kinds import SECONDS
from modelmill.serve.signals.seldom import EVERY_S, hush
from modelmill.serve.signals.signals import QUIET, Signals, Telling
from modelmill.serve.signals.status import Counts, below, counts, left, objective, quantile, status
from modelmill.serve.signals.trace import OpenTelemetry, parent

TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = f"00-{TRACE}-b7ad6b7169203331-01"


def durations(**counted):
    """A histogram with counts by bound in milliseconds: ms5=10 is ten answers in (2.5, 5] milliseconds."""
    found = [0.0] * (len(SECONDS) + 2)
    for name, count in counted.items():
        found[SECONDS.index(int(name[2:]) / 1000)] = float(count)
    return tuple(found)


def test_quantiles_lie_evenly_within_a_bucket():
    found = durations(ms5=100, ms10=100)
    assert quantile(found, 0.25) == pytest.approx(3.75)
    assert quantile(found, 0.5) == pytest.approx(5.0)
    assert quantile(found, 0.75) == pytest.approx(7.5)
    assert below(found, 0.0075) == pytest.approx(150)
    assert below(found, 100.0) == 200


def test_jitter_is_what_lies_between_the_median_and_the_slowest():
    found = status({"5m": Counts(durations=durations(ms5=100, ms10=100)), "1h": Counts()}, 1.0, {})["windows"]
    assert (found["5m"]["latency_p50_ms"], found["5m"]["latency_p95_ms"]) == pytest.approx((5.0, 9.5))
    assert found["5m"]["jitter_ms"] == pytest.approx(4.5)
    assert found["1h"]["jitter_ms"] is None


def test_a_budget_is_used_up_by_what_failed_and_by_what_was_slow():
    found = Counts(1000, 1, durations=durations(ms5=990, ms100=10))
    assert left("availability", 0.999, found) == pytest.approx(0.0)
    assert left("availability", 0.99, found) == pytest.approx(0.9)
    assert left("latency_p99_ms", 10, found) == pytest.approx(0.0)
    assert left("latency_p95_ms", 10, found) == pytest.approx(0.8)
    assert left("availability", 0.99, Counts()) is None


def test_each_window_is_told_by_itself():
    found = {"5m": Counts(200, 1), "1h": Counts(300, 51)}
    told = status(found, 1500.04, {"availability": 0.9})
    assert told["up_seconds"] == 1500.0
    assert told["windows"]["5m"]["budget_left"]["availability"] == pytest.approx(0.95)
    assert told["windows"]["1h"]["availability"] == pytest.approx(249 / 300)


def test_counts_are_those_of_all_models_by_whose_fault_it_was():
    signals = Signals(QUIET)
    for code in (200, 200, 429, 500, 503, 504):
        signals.answered(Answer("v2", "a", "1", code, 0.004))
    found = counts(signals.figures.series())
    assert (found.requests, found.failed, found.refused, found.expired) == (6, 2, 1, 1)
    assert found.durations[:-1] == durations(ms5=3)[:-1]
    assert status({"5m": found}, 1.0, {})["windows"]["5m"]["availability"] == pytest.approx(1 - 3 / 6)


def test_nobody_fills_or_spends_the_budget_but_requests_that_were_to_be_answered():
    """Not those of no model, nor what was wrong with them, nor what is beyond a quota; and their times are no times."""
    signals = Signals(QUIET)
    for _ in range(300):
        signals.answered(Answer("v2", "", "", 401, 0.004))
        for code in (400, 403, 413, 499):
            signals.answered(Answer("v2", "a", "1", code, 0.004))
        signals.answered(Answer("v2", "a", "1", 429, 0.004, over_quota=True))
    for code in (200, 500):
        signals.answered(Answer("v2", "a", "1", code, 0.04))
    found = counts(signals.figures.series())
    assert (found.requests, found.lost) == (2, 1)
    assert found.durations[:-1] == durations(ms50=1)[:-1]
    assert left("availability", 0.5, found) == pytest.approx(0.0)
    assert 'code="429"} 300' in signals.figures.text({})


def test_objectives_are_checked():
    assert objective("latency_p99_ms=50") == ("latency_p99_ms", 50.0)
    with pytest.raises(UnknownName, match="Did you mean availability"):
        objective("avaliability=0.9")
    with pytest.raises(OutOfBounds, match="between 0 and 1"):
        objective("availability=99.9")
    with pytest.raises(OutOfBounds, match="milliseconds"):
        objective("latency_p99_ms=soon")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "00-xyz",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-b7ad6b7169203331-01",
        f"00-{TRACE}-b7ad6b7169203331-01-more",
        SAMPLED.upper(),
    ],
)
def test_a_header_that_is_none_has_no_parent(header):
    assert parent(header) is None


def test_later_versions_of_the_header_are_read_as_far_as_they_are_known():
    assert parent(f"01-{TRACE}-b7ad6b7169203331-03-more").sampled
    assert not parent(f"00-{TRACE}-b7ad6b7169203331-02").sampled


def test_the_callers_word_decides_and_else_the_ratio(spans, tmp_path):
    """Of the log and of traces each has its own part, and neither says anything of the other."""
    log = tmp_path / "log"
    signals = Signals(Telling(log, 0.2, 0.5))
    for number in range(10_000):
        signals.answered(Answer("v2", "m", "1", 200, 0.001, str(number)))
        if number % 1000 == 999:  # it holds 2048 at most
            signals.tracer._processors[0].force_flush()
    signals.answered(Answer("v2", "m", "1", 200, 0.001, "asked", parent(SAMPLED)))
    signals.answered(Answer("v2", "m", "1", 200, 0.001, "not asked", parent(SAMPLED[:-1] + "0")))
    signals.answered(Answer("v2", "m", "1", 500, 0.001, "failed"))
    signals.tracer._processors[0].force_flush()
    signals.close()
    logged = {json.loads(line)["id"] for line in log.read_text().splitlines()}
    traced = {span.attributes["id"] for span in spans.get_finished_spans()}
    assert "failed" in logged
    assert "asked" in traced
    assert "not asked" not in traced
    assert abs(len(logged) - 2000) < 240
    assert abs(len(traced) - 5000) < 300
    assert abs(len(logged & traced) - 1000) < 180


@pytest.mark.parametrize("ratio", [0.01, 0.5, 0.99])
def test_a_part_of_all_is_drawn_each_by_itself(ratio):
    draw, total = Draw(ratio), 100_000
    hits = [draw.hits() for _ in range(total)]
    spread = math.sqrt(ratio * (1 - ratio) / total)
    assert abs(sum(hits) / total - ratio) < 6 * spread
    after = [one for before, one in pairwise(hits) if before]
    assert abs(sum(after) / len(after) - ratio) < 6 * math.sqrt(ratio * (1 - ratio) / len(after))


@pytest.fixture
def spans(monkeypatch):
    exporter = InMemorySpanExporter()
    monkeypatch.setattr("modelmill.serve.signals.trace._otlp", lambda: exporter)
    return exporter


def test_the_log_and_the_trace_tell_of_requests_and_not_of_rows(registry, tmp_path, spans):
    log = tmp_path / "access.jsonl"
    with Service(registry, ["flowers"], telling=Telling(log, 1.0, 1.0)) as service, Client(service.url) as client:
        client.predict("flowers", [[123.25, 1]])
        client.infer("flowers", {"length": [123.25], "width": [1.0]})
        with pytest.raises(Exception, match="missing"):
            client.infer("flowers", {"length": [123.25]})
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["face"], line["model"], line["version"], line["code"]) for line in lines] == [
        ("predict", "flowers", "1", 200),
        ("v2", "flowers", "1", 200),
        ("v2", "flowers", "1", 400),
    ]
    assert all(line["bytes_in"] > 0 and line["bytes_out"] > 0 and line["milliseconds"] > 0 for line in lines)
    assert "123.25" not in log.read_text()
    ended = spans.get_finished_spans()
    assert [(span.name, span.attributes["code"]) for span in ended] == [
        ("predict flowers", 200),
        ("v2 flowers", 200),
        ("v2 flowers", 400),
    ]
    assert all(span.end_time > span.start_time for span in ended)


def test_a_traced_callers_request_is_a_part_of_its_trace(registry, tmp_path, spans):
    body = json.dumps([[3, 1]]).encode()
    with Service(registry, ["flowers"], telling=Telling(tmp_path / "log", 0.0, 0.0)) as service:
        for header in ({}, {"traceparent": SAMPLED}, {"traceparent": SAMPLED[:-1] + "0"}):
            request = urllib.request.Request(f"{service.url}/predict/flowers", body, header)
            with urllib.request.urlopen(request, timeout=20) as answer:
                assert answer.status == 200
    (span,) = spans.get_finished_spans()
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert (tmp_path / "log").read_bytes() == b""


def test_a_failure_is_logged_with_the_trace_of_its_caller_whichever_wire_it_came_by(
    empty_registry, publish_flowers, flowers_signature, tmp_path
):
    publish_flowers(empty_registry)
    empty_registry.publish("bad", {"model.onnx": b"broken"}, flowers_signature)
    log = tmp_path / "access.jsonl"
    path = "/inference.GRPCInferenceService/ModelInfer"
    with Service(empty_registry, telling=Telling(log), grpc_port=0) as service:
        for name in ("flowers", "bad"):  # the first is the client's fault, and not logged
            request = urllib.request.Request(f"{service.url}/v2/models/{name}/infer", b"{}", {"traceparent": SAMPLED})
            with pytest.raises(urllib.error.HTTPError) as refusal:
                urllib.request.urlopen(request, timeout=20)
            refusal.value.close()
            with grpc.insecure_channel(service.grpc_url) as channel:
                message, metadata = tagged(1, name.encode()), (("traceparent", SAMPLED),)
                with pytest.raises(grpc.RpcError):
                    channel.unary_unary(path)(message, metadata=metadata, timeout=20)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = [(line["face"], line["code"], line.get("trace")) for line in lines]
    assert told == [("v2", 503, TRACE), ("grpc", 503, TRACE)]


@pytest.mark.parametrize(
    ("states", "wanted"),
    [
        (("a=1,vendor@b=x y",), {"a": "1", "vendor@b": "x y"}),
        (("a=1", "b=2"), {"a": "1", "b": "2"}),
        ((), {}),
        (("a=1,no pair",), {}),
        (("a=1,a=2",), {}),
        (("a=" + "x" * 3000,), {}),
    ],
)
def test_what_tracers_before_us_say_is_passed_on(registry, tmp_path, spans, states, wanted):
    with Service(registry, ["flowers"], telling=Telling(tmp_path / "log", 0.0, 0.0), grpc_port=0) as service:
        sent = [("traceparent", SAMPLED), *(("tracestate", state) for state in states)]
        connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=20)
        connection.putrequest("POST", "/predict/flowers")
        for header in [("Content-Length", "8"), *sent]:
            connection.putheader(*header)
        connection.endheaders(b"[[3, 1]]")
        assert connection.getresponse().status == 200
        connection.close()
        with grpc.insecure_channel(service.grpc_url) as channel, contextlib.suppress(grpc.RpcError):
            channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(b"", metadata=sent, timeout=20)
    found = spans.get_finished_spans()
    assert [dict(span.context.trace_state) for span in found] == [wanted, wanted]
    assert {f"{span.context.trace_id:032x}" for span in found} == {TRACE}


def spans_of(monkeypatch, **variables):
    """The spans of a request that is always traced, where the environment says so."""
    exporter = InMemorySpanExporter()
    with monkeypatch.context() as patch:
        patch.setattr("modelmill.serve.signals.trace._otlp", lambda: exporter)
        for name, value in variables.items():
            patch.setenv(name, value)
        signals = Signals(Telling(trace_ratio=1.0))
    signals.answered(Answer("v2", "m", "1", 200, 0.001))
    signals.close()
    return exporter.get_finished_spans()


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, "modelmill"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=a,zone=b"}, "a"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=a,zone=b", "OTEL_SERVICE_NAME": "mine"}, "mine"),
    ],
)
def test_the_environment_says_what_the_service_is_called(monkeypatch, variables, name):
    (span,) = spans_of(monkeypatch, **variables)
    assert span.resource.attributes["service.name"] == name
    assert span.resource.attributes.get("zone") == ("b" if variables else None)


def test_the_environment_says_where_spans_go(monkeypatch, capsys):
    assert spans_of(monkeypatch, OTEL_TRACES_EXPORTER="none") == ()
    assert spans_of(monkeypatch, OTEL_SDK_DISABLED="true") == ()
    assert spans_of(monkeypatch, OTEL_TRACES_EXPORTER="console") == ()
    assert '"name": "v2 m"' in capsys.readouterr().out
    assert len(spans_of(monkeypatch, OTEL_TRACES_EXPORTER="console, otlp")) == 1
    assert '"name": "v2 m"' in capsys.readouterr().out
    with pytest.raises(UnknownName, match="OTEL_TRACES_EXPORTER: no exporter named 'zipkin'"):
        spans_of(monkeypatch, OTEL_TRACES_EXPORTER="zipkin")


def test_a_protocol_whose_package_is_missing_is_said_with_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(MissingExtra, match="pip install opentelemetry-exporter-otlp-proto-grpc"):
        OpenTelemetry()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json")
    with pytest.raises(UnknownName, match="OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: no protocol named 'http/json'"):
        OpenTelemetry()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
    OpenTelemetry().close()


LOW = SAMPLED.replace("8448eb211c80319c", "0448eb211c80319c")
"""A trace whose id is among the first 2 % of all, and that its caller samples."""


@pytest.mark.parametrize(
    ("sampler", "part", "wanted"),
    [
        ("always_on", "", [1, 1, 1, 1]),
        ("always_off", "", [0, 0, 0, 0]),
        ("traceidratio", "0.1", [None, 1, 1, 0]),
        ("parentbased_always_on", "", [1, 1, 0, 1]),
        ("parentbased_always_off", "", [0, 1, 0, 1]),
        ("PARENTBASED_TRACEIDRATIO", "0", [0, 1, 0, 1]),
    ],
)
def test_the_environments_sampler_says_what_is_traced_where_no_ratio_is_given(
    spans, monkeypatch, tmp_path, sampler, part, wanted
):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", part)
    signals = Signals(Telling(tmp_path / "log"))
    asked = {"none": None, "sampled": LOW, "not sampled": f"{LOW[:-1]}0", "high": SAMPLED}
    for name, header in asked.items():
        signals.answered(Answer("v2", "m", "1", 200, 0.001, name, parent(header)))
    signals.close()
    traced = {span.attributes["id"] for span in spans.get_finished_spans()}
    for name, expected in zip(asked, wanted, strict=True):
        assert expected is None or (name in traced) == bool(expected)


def test_a_ratio_that_is_given_goes_before_the_environments_sampler(monkeypatch):
    assert len(spans_of(monkeypatch, OTEL_TRACES_SAMPLER="always_off")) == 1


def test_a_sampler_that_is_not_taken_is_said(monkeypatch, capsys):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "jaeger_remote")
    assert Signals(QUIET).tracer is None
    assert "OTEL_TRACES_SAMPLER=jaeger_remote is not taken" in capsys.readouterr().err
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "lots")
    with pytest.raises(OutOfBounds, match="OTEL_TRACES_SAMPLER_ARG: came 'lots'"):
        Signals(QUIET)


class Stuck(SpanExporter):
    """A collector that takes nothing and says nothing."""

    def __init__(self):
        self.gate = threading.Event()
        self.given_up = False

    def export(self, spans):
        self.given_up = not self.gate.wait(20)
        return SpanExportResult.FAILURE


def test_a_collector_that_takes_nothing_keeps_nobody_from_ending():
    exporter = Stuck()
    tracer = OpenTelemetry(exporter)
    tracer.ended("v2 flowers", None, (1, 2), {}, failed=False)
    tracer.close()
    assert not exporter.given_up
    exporter.gate.set()


def test_what_a_library_says_is_told_now_and_then(capsys):
    hush("some.library", "traces")
    hush("some.library", "traces")
    for seconds in (0, 1, EVERY_S - 1, EVERY_S, EVERY_S + 1):
        said = {"name": "some.library.part", "levelno": logging.WARNING, "msg": "gone %s", "args": (seconds,)}
        logging.getLogger("some.library.part").handle(logging.makeLogRecord({**said, "created": 10**9 + seconds}))
    assert capsys.readouterr().err.splitlines() == [
        "modelmill serve: traces: gone 0",
        f"modelmill serve: traces: gone {EVERY_S} (2 more since the last)",
    ]
    OpenTelemetry(InMemorySpanExporter()).close()
    assert not logging.getLogger("opentelemetry").propagate


def test_the_status_says_what_was_answered(empty_registry, publish_flowers):
    publish_flowers(empty_registry, promote=True)
    telling = Telling(objectives={"availability": 0.99, "latency_p99_ms": 1000})
    with Service(empty_registry, ["flowers"], telling=telling) as service, Client(service.url) as client:
        for _ in range(3):
            client.predict("flowers", [[3, 1]])
        with urllib.request.urlopen(f"{service.url}/api/status", timeout=20) as answer:
            told = json.load(answer)
    assert told["ready"] is True
    assert told["objectives"] == {"availability": 0.99, "latency_p99_ms": 1000}
    for window in told["windows"].values():
        assert (window["requests"], window["failed"], window["availability"]) == (3, 0, 1.0)
        assert window["budget_left"] == {"availability": 1.0, "latency_p99_ms": 1.0}
        assert window["latency_p99_ms"] >= window["latency_p50_ms"] > 0


def test_a_log_that_cannot_be_written_keeps_nobody_from_an_answer(registry, capfd):
    with (
        Service(registry, ["flowers"], telling=Telling(Path("/dev/full"), 1.0)) as service,
        Client(service.url) as client,
    ):
        for _ in range(3):
            assert client.predict("flowers", [[3, 1]])["label"] == ["long"]
        assert eventually(lambda: service.server.signals.journal.lost == 3)
    assert capfd.readouterr().err.count("the access log cannot be written") == 1


def test_a_full_disk_cuts_no_line_of_those_that_come_after(tmp_path):
    """A file that takes so many bytes, then none, then all."""

    class Small(io.FileIO):
        left = 30

        def write(self, data):
            if not self.left:
                raise OSError(28, "No space left on device")
            written = super().write(data[: self.left])
            self.left -= written
            return written

    journal = Journal(tmp_path / "log")
    journal._file.close()
    journal._file = Small(tmp_path / "log", "ab")
    journal.write([{"number": number} for number in range(5)])
    assert journal.lost == 3
    journal._file.left = 1000
    journal.write([{"number": 5}])
    journal.close()
    lines = (tmp_path / "log").read_text().splitlines()
    assert [json.loads(line)["number"] for line in (*lines[:2], lines[-1])] == [0, 1, 5]
    assert len(lines) == 4


def test_a_log_in_no_folder_is_refused_in_words(tmp_path):
    with pytest.raises(WorkError, match=r"--log .*nowhere.* cannot be written: No such file"):
        Journal(tmp_path / "nowhere" / "access.jsonl")


def test_every_way_to_an_answer_counts_its_phases(registry):
    """The ordinary way too: rows for people, and tensors that are asked for with an output."""
    body = {
        "inputs": [
            {"name": name, "datatype": "FP32", "shape": [1], "data": [value]}
            for name, value in (("length", 3), ("width", 1))
        ],
        "outputs": [{"name": "label"}],
    }
    with Service(registry, ["flowers"]) as service, Client(service.url) as client:
        client.predict("flowers", [[3, 1]])
        request = urllib.request.Request(f"{service.url}/v2/models/flowers/infer", json.dumps(body).encode())
        request.add_header("connection", "close")
        urllib.request.urlopen(request, timeout=20).close()
        found = service.server.signals.figures.series()
        assert sum(found['["encode", "flowers", "1"]'][:-1]) == 2


def test_the_trace_of_a_good_request_is_in_the_log(registry, tmp_path):
    log = tmp_path / "access.jsonl"
    with Service(registry, ["flowers"], telling=Telling(log, 1.0)) as service:
        request = urllib.request.Request(f"{service.url}/predict/flowers", b"[[3, 1]]", {"traceparent": SAMPLED})
        urllib.request.urlopen(request, timeout=20).close()
    assert json.loads(log.read_text())["trace"] == TRACE


def infer(service, path, *traces):
    """The status of a request for inference with so many headers `traceparent`."""
    tensors = [{"name": n, "datatype": "FP32", "shape": [1], "data": [1]} for n in ("length", "width")]
    body = json.dumps({"inputs": tensors}).encode()
    connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=20)
    connection.putrequest("POST", path)
    for name, value in (("Content-Length", len(body)), *(("traceparent", trace) for trace in traces)):
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    assert json.loads(answer.read())
    connection.close()
    return answer.status


@pytest.mark.parametrize("name", ["flowers", "flowers@1"])
def test_both_ways_write_the_trace_to_the_log_and_none_that_comes_twice(registry, tmp_path, quick, name):
    log, other = tmp_path / "access.jsonl", SAMPLED.replace("b7ad", "c7ad")
    with Service(registry, ["flowers"], telling=Telling(log, 1.0)) as service:
        for traces in ((SAMPLED,), (SAMPLED,), (SAMPLED, other), (), ("00-xyz",)):
            assert infer(service, f"/v2/models/{name}/infer", *traces) == 200
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line.get("trace") for line in lines] == [TRACE, TRACE, None, None, None]


def test_a_trace_that_comes_twice_is_none_where_requests_are_traced(registry, tmp_path, spans):
    with Service(registry, ["flowers"], telling=Telling(tmp_path / "log", 0.0, 1.0)) as service:
        assert infer(service, "/v2/models/flowers/infer", SAMPLED, SAMPLED) == 200
    (span,) = spans.get_finished_spans()
    assert span.parent is None


def test_who_waits_for_a_model_is_told_at_metrics(registry, monkeypatch):
    with Service(registry, ["flowers"]) as service:
        monkeypatch.setattr(service.server.catalogue.served["flowers"].lane, "waiting", 2)
        with urllib.request.urlopen(f"{service.url}/metrics", timeout=20) as answer:
            assert 'nv_inference_pending_request_count{model="flowers",version="1"} 2\n' in answer.read().decode()
