"""The short way of inference over gRPC: decoded and run where a message was read, or handed to the engine there.

What is to run on a thread is answered as soon as its run is done. What is done is what `Methods.infer` does, by the
same functions; whatever is not plain is left to it, which begins anew.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from modelmill.errors import MillError, ModelError, OverQuota
from modelmill.serve.access.caller import Caller
from modelmill.serve.access.door import infers
from modelmill.serve.engine.terms import DEFAULT_TERMS
from modelmill.serve.models.endpoint import Endpoint
from modelmill.serve.plane import Outputs, Plane, blamed, reference_of
from modelmill.serve.request import no_room
from modelmill.serve.rpc import tensors
from modelmill.serve.rpc.envelope import Envelope, opened
from modelmill.serve.rpc.status import TOO_LARGE, as_http
from modelmill.serve.rpc.tensors import Columns, Plan, Plans
from modelmill.serve.signals.answer import Answer
from modelmill.serve.signals.signals import Signals
from modelmill.serve.traffic.mirror import Copy

INFERENCE = "/inference.GRPCInferenceService/"
INFER = f"{INFERENCE}ModelInfer"
"""The path of the method that goes the short way."""

ORDINARY = frozenset({"traceparent"})
"""Metadata that ask for more than the short way has."""

FEW_ELEMENTS = 1024
"""Elements up to which an answer that is written one by one is not worth a thread."""

NOTHING: Any = None

IsOf = Callable[[str, str], None]
"""What is told the model and the number of the version that answers."""


def ignored(name: str, number: str) -> None:
    """Tell nobody."""


@dataclass(slots=True, eq=False)
class Asked:
    """A request on the short way: who asks what, of which version, and when it came."""

    endpoint: Endpoint
    caller: Caller
    envelope: Envelope
    plan: Plan
    columns: Columns
    size: int
    """The bytes of its message."""
    started: float
    future: asyncio.Future[Outputs] = NOTHING
    """Of one that is in the engine: done with the outputs, or cancelled when the client leaves."""
    told: bool = False
    """Whether its answer was told of."""


class Express:
    """Answers inference requests for models that are loaded."""

    def __init__(self, plane: Plane, signals: Signals, plans: Plans) -> None:
        self.plane = plane
        self.signals = signals
        self.plans = plans

    def answer(
        self, message: bytes, metadata: Mapping[str, str], timeout_s: float = math.inf, is_of: IsOf = ignored
    ) -> bytes | Asked | None:
        """The answer to a ModelInferRequest for a model that is loaded, or what is to come of it: see `finish`.

        None, and nothing done, for whatever is not plain: `infer` begins anew, and has the words for errors. Only what
        the engine says is raised here, since it is not asked twice: Overloaded, DeadlineExceeded.
        """
        plane = self.plane
        caller = plane.door.known_by(metadata)
        if caller is None or plane.state.refusing or not ORDINARY.isdisjoint(metadata):
            return None
        started = time.perf_counter()
        try:
            envelope = opened(message)
            reference = reference_of(envelope.name, envelope.version)
            endpoint = plane.catalogue.present(reference)
            if endpoint is None:
                return None
            if caller.gate is not None or not infers(caller, endpoint.name) or len(message) > caller.tier.payload_bytes:
                return None
            if plane.engine.turns.must_wait(caller.terms):
                return None
            watched = reference in plane.traffic.watches
            if watched:
                endpoint = plane.routed(reference, metadata.get, caller)
            if endpoint is None or endpoint.steps:
                return None
            if len(envelope.head) > tensors.KEPT_BYTES:
                return None
            plan = self.plans.find(endpoint, endpoint.expected, envelope)
            if plan.rows > caller.tier.batch_rows or plan.is_long(envelope):
                return None
            if plan.by_element and plan.elements > FEW_ELEMENTS:
                return None
            columns = tensors.columns(envelope, plan)
            asked = Asked(endpoint, caller, envelope, plan, columns, len(message), started)
            inline = plane.engine.fits_inline(endpoint.lane, plan.rows, columns)
            if inline and not watched:
                terms = plan.wishes.terms(DEFAULT_TERMS, plane.engine.ns() / 1e9)
                outputs = plane.engine.run_inline(endpoint.lane, columns, plan.rows, plan.names, terms)
                answer = self._written(asked, outputs)
                plane.engine.turns.spent(caller.terms, time.perf_counter() - started)
                return answer
        except Exception:  # noqa: BLE001 - the ordinary way meets it again, and has the words
            return None
        is_of(endpoint.name, endpoint.label)
        return self._watched(asked) if inline else self._put(asked, timeout_s)

    def _watched(self, asked: Asked) -> bytes:
        """The answer to a request that is run at once, of which traffic is told. Raises what a run does.

        It is not left to the ordinary way, which would ask whichever version is picked next.
        """
        engine, plan = self.plane.engine, asked.plan
        terms = plan.wishes.terms(DEFAULT_TERMS, engine.ns() / 1e9)

        def outputs() -> Outputs:
            return engine.run_inline(asked.endpoint.lane, asked.columns, plan.rows, plan.names, terms)

        answer = self._answer(asked, outputs)
        engine.turns.spent(asked.caller.terms, time.perf_counter() - asked.started)
        return answer

    def _count(self, asked: Asked, came: Outputs | Exception) -> None:
        """Tell traffic what came of a request, where it is watched."""
        name, plan = asked.envelope.name, asked.plan
        if name in self.plane.traffic.watches and not asked.envelope.version:
            self.plane.count(name, asked.endpoint, Copy(asked.columns, plan.rows, plan.names), came)

    def _put(self, asked: Asked, timeout_s: float) -> Asked:
        """Hand a request to the engine. Raises Overloaded, DeadlineExceeded."""
        caller, plan, now = asked.caller, asked.plan, self.plane.engine.ns() / 1e9
        terms = caller.terms if timeout_s == math.inf else replace(caller.terms, deadline=now + timeout_s)
        terms = plan.wishes.terms(terms, now)
        try:
            asked.future = self.plane.put(asked.endpoint, caller, asked.columns, plan.rows, plan.names, terms)
        except MillError as error:
            self._count(asked, error)
            self._tell(asked, as_http(error), isinstance(error, OverQuota))
            raise
        return asked

    def finish(self, asked: Asked) -> bytes:
        """The answer to a request whose future is done. Raises what a run does, and CancelledError."""
        return self._answer(asked, asked.future.result)

    def _answer(self, asked: Asked, outputs: Callable[[], Outputs]) -> bytes:
        """Outputs as an answer, of which, and of what is raised instead, is told."""
        code = 500
        try:
            found = outputs()
            self._count(asked, found)
            return self._written(asked, found)
        except ModelError as error:
            self._count(asked, error)
            said = blamed(error, asked.endpoint)
            code = as_http(said)
            raise said from None
        except MillError as error:
            self._count(asked, error)
            code = as_http(error)
            raise
        except MemoryError as error:
            self._count(asked, error)
            code = TOO_LARGE
            raise no_room() from None
        except asyncio.CancelledError:
            code = 499
            raise
        finally:
            if not asked.told:
                self._tell(asked, code)

    def _written(self, asked: Asked, outputs: Outputs) -> bytes:
        """Outputs as an answer, which is told of. Raises RequestError."""
        endpoint = asked.endpoint
        ran = time.perf_counter()
        answer = tensors.answer(asked.envelope, asked.plan, outputs, endpoint.expected, endpoint.name, endpoint.number)
        asked.told = True
        ended = time.perf_counter()
        seconds = ended - asked.started
        self.signals.figures.of(endpoint.name, endpoint.label).answered("grpc", 200, seconds, ended - ran)
        if self.signals.draw.hits():
            self.signals.tell(_told(asked, 200, seconds, len(answer)), drawn=True)
        return answer

    def _tell(self, asked: Asked, code: int, over_quota: bool = False) -> None:
        """Tell of an answer that went wrong in the engine."""
        asked.told = True
        told = _told(asked, code, time.perf_counter() - asked.started)
        self.signals.answered(replace(told, over_quota=over_quota))


def _told(asked: Asked, code: int, seconds: float, bytes_out: int = 0) -> Answer:
    """The answer to a request, as it is told of."""
    at, identity, sizes = asked.endpoint, asked.envelope.id.decode() or None, (asked.size, bytes_out)
    return Answer("grpc", at.name, at.label, code, seconds, identity, None, sizes, asked.caller.tenant)
