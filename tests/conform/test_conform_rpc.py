"""Conformance over gRPC: what others do wrong there is seen, and what they need not have is left out."""

from __future__ import annotations

import pytest

pytest.importorskip("grpc")

from modelmill.conform.run import checks, examine, outcome


def seen(both, fault):
    app, url, address = both
    app.fault = fault
    subject, _ = examine(url, address)
    listed = [check for check in checks(subject) if "grpc" in check.id and check.group != "robustness"]
    return {each.id: each for each in (outcome(check, subject) for check in listed)}


FAULTS = {
    "": set(),
    "a bare stream": set(),
    "no stream": set(),
    "no health": set(),
    "raw is big-endian": {"core.grpc.infer.raw", "grpc.stream", "grpc.classification"},
    "a parameter of two types": {"core.grpc.infer.parameters"},
    "a stream says one thing": {"grpc.stream"},
    "never serves": {"grpc.health"},
    "the worst classes over gRPC": {"grpc.classification"},
    "an index of others": {"grpc.repository.index"},
    "loads what is not there": {"grpc.repository.load"},
    "figures stand still": {"grpc.statistics"},
    "a configuration without types": {"grpc.configuration"},
    "takes any priority": {"grpc.schedule_policy"},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_over_grpc_is_seen_and_nothing_else(both, fault):
    found = seen(both, fault)
    assert {name for name, each in found.items() if each.verdict == "deviates"} == FAULTS[fault]
    left = {name: each.came for name, each in found.items() if each.verdict == "left out"}
    absent = {"no stream": "grpc.stream", "no health": "grpc.health"}
    assert set(left) == ({absent[fault]} if fault in absent else set())
    assert all("the server has no" in words for words in left.values())
