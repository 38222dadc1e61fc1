"""The whole examination of a server: every check that says something of it, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelmill.conform import core, extensions, robustness, rpc, rpc_extensions
from modelmill.conform.channel import at as channel_at
from modelmill.conform.check import Check, Outcome, conformant
from modelmill.conform.choice import check_model, choose_model
from modelmill.conform.deviation import Deviation, LeftOut
from modelmill.conform.http import at
from modelmill.conform.subject import Subject
from modelmill.errors import OutOfBounds
from modelmill.tls import Tls

ALIVE = robustness.CHECKS[-1]


def examine(
    url: str,
    grpc: str = "",
    model: str = "",
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 10.0,
    inputs: Sequence[Mapping[str, Any]] = (),
    tls: Tls | None = None,
) -> tuple[Subject, Iterator[Outcome]]:
    """The server at a URL with the model that it is asked, and the outcomes of the checks as they come.

    model: by default the first that its repository lists. headers: go with every request. timeout_s: of every request.
    inputs: name, datatype and shape of the inputs of a model whose metadata have none. tls: files, for https and grpcs.
    Raises WorkError where nothing listens, or no model can be found; OutOfBounds or UnknownName for what is not there.
    """
    http = at(url, headers or {}, timeout_s, tls)
    channel = channel_at(grpc, http) if grpc else None
    if http.tls.is_given and not (http.is_secure or (channel and channel.tls is not None)):
        hint = "Write https://, and grpcs:// for --grpc."
        raise OutOfBounds(url, "is not encrypted, and files of TLS were given", hint)
    http.reach()
    if channel:
        channel.reach()
    if model:
        check_model(http, model)
    subject = Subject(http, model or choose_model(http), channel, tuple(map(dict, inputs)))
    return subject, _outcomes(subject)


def report(subject: Subject, outcomes: list[Outcome]) -> dict[str, Any]:
    """What came of all checks, as one document."""
    counts = {
        verdict: sum(each.verdict == verdict for each in outcomes) for verdict in ("holds", "deviates", "left out")
    }
    try:
        server = subject.server
    except Deviation:
        server = {}
    return {
        "url": subject.http.url,
        "grpc": subject.grpc.address if subject.grpc else "",
        "model": subject.model,
        "server": {key: server.get(key) for key in ("name", "version", "extensions")},
        "conformant": conformant(outcomes),
        "counts": {"holds": counts["holds"], "deviates": counts["deviates"], "left_out": counts["left out"]},
        "checks": outcomes,
    }


def checks(subject: Subject) -> Iterator[Check]:
    """The checks that are for this server, the one whether it still lives last."""
    yield from core.CHECKS
    if subject.grpc:
        yield from (check for check in rpc.CHECKS if check.group == "core")
    offered = [*extensions.CHECKS, *(rpc_extensions.CHECKS if subject.grpc else ())]
    yield from (check for check in offered if extensions.is_offered(check.extension, subject))
    yield from robustness.CHECKS[:-1]
    if subject.grpc:
        yield from (check for check in rpc.CHECKS if check.group == "robustness")
    yield ALIVE


def _outcomes(subject: Subject) -> Iterator[Outcome]:
    for check in checks(subject):
        yield outcome(check, subject)


def outcome(check: Check, subject: Subject) -> Outcome:
    """What one check shows."""

    def made(verdict: Any, came: str = "") -> Outcome:
        return Outcome(check.id, check.group, check.level, check.clause, check.where, verdict, came)

    try:
        check.run(subject)
    except Deviation as deviation:
        return made("deviates", str(deviation))
    except LeftOut as reason:
        return made("left out", str(reason))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # Nothing is certain of what an unknown server sends.
        return made("deviates", f"something that cannot be read: {type(error).__name__} {error}")
    return made("holds")
