"""The methods of the gRPC services: the bytes of a request in, the bytes of an answer out.

They know no connection and no gRPC library: a front calls them, and turns what they raise into a status.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from modelmill.errors import (
    MillError,
    NotServed,
    OverQuota,
    RequestError,
    StorageError,
    TooLarge,
    Unavailable,
)
from modelmill.protocol.schema import Value, schema, tagged
from modelmill.serve import documents, standing
from modelmill.serve.access.caller import ANYONE, Caller
from modelmill.serve.access.caller import INFER as INFERS
from modelmill.serve.access.door import check, check_role, discreet
from modelmill.serve.access.needs import called
from modelmill.serve.models.endpoint import Endpoint
from modelmill.serve.plane import Ask, Outputs, Plane, reference_of
from modelmill.serve.request import LONG_BYTES, no_room
from modelmill.serve.rpc import tensors
from modelmill.serve.rpc.envelope import UNKNOWN_MOST, Envelope, addressed, opened
from modelmill.serve.rpc.express import INFER, INFERENCE, Express, IsOf, ignored
from modelmill.serve.rpc.status import TOO_LARGE, Unimplemented, as_http, status
from modelmill.serve.rpc.tensors import Columns, Plan, Plans
from modelmill.serve.signals.answer import Answer
from modelmill.serve.signals.kinds import is_failure
from modelmill.serve.signals.signals import Signals
from modelmill.serve.signals.trace import parent

STREAM_INFER = f"{INFERENCE}ModelStreamInfer"
REPOSITORY = "/inference.model_repository.ModelRepositoryService/"
HEALTH = "/grpc.health.v1.Health/"
SERVICES = ("", "inference.GRPCInferenceService", "inference.model_repository.ModelRepositoryService")
"""What grpc.health.v1 may be asked for."""

CHANGES = ("RepositoryModelLoad", "RepositoryModelUnload")
"""Ends of the paths of methods whose calls are in the audit log: they are told where a call came from."""

CONTROL_BYTES = LONG_BYTES
"""The largest message of a method that does not infer: it is read on the loop."""

WATCH_SECONDS = 0.2
"""How often a watched health is looked at."""

FINAL = tagged(4, tagged(1, b"triton_final_response") + tagged(2, b"\x08\x01"))
"""The parameter `triton_final_response`, true, at the end of an answer in a stream: every request has one answer."""

ABSENT = {
    "SystemSharedMemory": "shared memory",
    "CudaSharedMemory": "shared memory",
    "TraceSetting": "trace settings",
    "LogSettings": "log settings",
}
"""Beginnings of the names of Triton's methods that are not offered, and what they are about."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a call. deadline: on the loop's clock in seconds, as the client's grpc-timeout says."""

    deadline: float = math.inf
    metadata: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    taken: bool = False
    """Whether what comes from it is owed an answer even at the end: a stream takes no message then."""
    is_of: IsOf = ignored
    """What is told which version answers."""


Unary = Callable[[bytes, Peer], Awaitable[bytes]]
Streaming = Callable[[AsyncIterable[bytes], Peer], AsyncIterator[bytes]]


class Methods:
    """Every method by its path; what was learned of the heads of requests lives as long as their version."""

    def __init__(self, plane: Plane, signals: Signals) -> None:
        self.plane = plane
        self.catalogue = plane.catalogue
        self.signals = signals
        self.plans = Plans()
        self.express = Express(plane, signals, self.plans)
        plain = {
            f"{INFERENCE}ServerLive": self.server_live,
            f"{INFERENCE}ServerReady": self.server_ready,
            f"{INFERENCE}ModelReady": self.model_ready,
            f"{INFERENCE}ServerMetadata": self.server_metadata,
            f"{INFERENCE}ModelMetadata": self.model_metadata,
            f"{INFERENCE}ModelConfig": self.model_config,
            f"{INFERENCE}ModelStatistics": self.model_statistics,
            f"{HEALTH}Check": self.check,
            **{
                f"{service}{name}": method
                for service in (INFERENCE, REPOSITORY)
                for name, method in (
                    ("RepositoryIndex", self.repository_index),
                    ("RepositoryModelLoad", self.load),
                    ("RepositoryModelUnload", self.unload),
                )
            },
        }
        self.unary: dict[str, Unary] = {path: self._plain(path, method) for path, method in plain.items()}
        self.unary[INFER] = self.infer
        self.streaming: dict[str, Streaming] = {
            STREAM_INFER: self.stream_infer,
            f"{HEALTH}Watch": self.watch,
        }

    def _plain(self, path: str, method: Callable[..., Awaitable[Value]]) -> Unary:
        """A method on plain values as one on bytes."""
        described = schema().methods[path]

        async def call(message: bytes, peer: Peer) -> bytes:
            caller = self._caller(path, peer)
            self._admit(caller, path, len(message))
            request = schema().decode(described.request, message, UNKNOWN_MOST)
            try:
                answer = await method(request, caller, *((peer.address,) if path.endswith(CHANGES) else ()))
            except NotServed as error:
                raise discreet(error, caller) from None
            except StorageError as error:
                print(f"modelmill serve: {error}", file=sys.stderr)
                raise
            return schema().encode(described.response, answer)

        return call

    def _caller(self, path: str, peer: Peer) -> Caller:
        """Who calls. Raises Unidentified."""
        return ANYONE if called(path) is None else self.plane.door.caller_of(peer.metadata)

    def _admit(self, caller: Caller, path: str, message_bytes: int) -> None:
        """Count a call. Raises Forbidden, OverQuota, TooLarge."""
        need = called(path)
        if need is None:
            return
        check(caller, need)
        if message_bytes > caller.tier.payload_bytes:
            most = f"tier {caller.tier.name} takes {caller.tier.payload_bytes}"
            raise TooLarge("message", f"has {message_bytes} bytes, and {most}", "Send fewer rows at a time.")

    def most_bytes(self, call_path: str, metadata: Mapping[str, str], otherwise: int) -> int:
        """The most bytes of a message, for whoever sends one that is packed, or has not come whole.

        Raises Unidentified, Forbidden, Unimplemented: what is not theirs to send need not be waited for.
        """
        if call_path not in self.unary and call_path not in self.streaming:
            raise self.unknown(call_path)
        most = otherwise if call_path in (INFER, STREAM_INFER) else min(otherwise, CONTROL_BYTES)
        need = called(call_path)
        if need is None:
            return most
        door = self.plane.door
        caller = door.known_by(metadata) or door.caller_of(metadata)
        check_role(caller, need)
        return min(most, caller.tier.payload_bytes)

    def standing(self, path: str, metadata: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """What is left of the quota of whoever calls; nothing without one, and where no key is looked at."""
        caller = self.plane.door.known_by(metadata)
        if caller is None or caller.gate is None or called(path) is None:
            return ()
        return standing.headers(caller)

    def unknown(self, path: str) -> Unimplemented:
        """The error for a method that is not here."""
        name = path.rpartition("/")[2]
        about = next((what for start, what in ABSENT.items() if name.startswith(start)), "")
        words = f"{about} is not offered" if about else f"there is no method {path[:200]!r}"
        return Unimplemented("method", words, "")

    async def infer(self, message: bytes, peer: Peer) -> bytes:
        """Answer a ModelInferRequest."""
        arrived = asyncio.get_running_loop().time()
        started = time.perf_counter()
        which, code, identity, caller, answer, over = ("", ""), 200, b"", ANYONE, b"", False
        try:
            caller = self._caller(INFER, peer)
            self._admit(caller, INFER, len(message))
            envelope = opened(message)
            identity = envelope.id
            reference = reference_of(envelope.name, envelope.version)
            terms = replace(caller.terms, deadline=peer.deadline)
            ask = Ask(reference, terms, peer.metadata.get, caller, peer.taken)
            if self.plane.must_load(ask):
                ask = replace(ask, terms=tensors.wishes_of(envelope).terms(terms, arrived))
            endpoint = await self.plane.begin(ask)
            which = (endpoint.name, endpoint.label)
            peer.is_of(*which)
            answer = await self._answer(ask, endpoint, envelope, arrived)
            return answer
        except MillError as error:
            code, over = as_http(error), isinstance(error, OverQuota)
            which = which if which[0] else self._asked(error, message, caller)
            peer.is_of(*which)
            raise discreet(error, caller) from None
        except MemoryError:
            code = TOO_LARGE
            raise no_room() from None
        except asyncio.CancelledError:
            code = 499
            raise
        except Exception:
            code = 500
            raise
        finally:
            seconds = time.perf_counter() - started
            said = peer.metadata if self.signals.tells_traces or is_failure(code) else {}
            above = parent(said.get("traceparent"), said.get("tracestate", ""))
            sizes = (len(message), len(answer))
            told = identity.decode() or None
            self.signals.answered(Answer("grpc", *which, code, seconds, told, above, sizes, caller.tenant, over))

    def _asked(self, error: MillError, message: bytes, caller: Caller) -> tuple[str, str]:
        """The model and the version of a request that was refused before they were found."""
        try:
            return self.plane.asked(error, *addressed(message), caller)
        except RequestError:
            return "", ""

    async def _answer(self, ask: Ask, endpoint: Endpoint, envelope: Envelope, arrived: float) -> bytes:
        plan, columns = await self._read(endpoint, envelope)
        terms = plan.wishes.terms(ask.terms, arrived)
        asked = ask if terms is ask.terms else replace(ask, terms=terms)
        outputs = await self.plane.run(asked, endpoint, columns, plan.rows, plan.names, _awaited)
        written = (envelope, plan, outputs, endpoint.expected, endpoint.name, endpoint.number)
        with self.signals.encoding(endpoint.name, endpoint.label):
            if plan.by_element and sum(array.nbytes for array in outputs.values()) > LONG_BYTES:
                return await asyncio.to_thread(tensors.answer, *written)
            return tensors.answer(*written)

    async def _read(self, endpoint: Endpoint, envelope: Envelope) -> tuple[Plan, Columns]:
        """What a request asks for, and its tensors; a long one is read on a thread."""
        if len(envelope.head) > LONG_BYTES:
            plan = await asyncio.to_thread(tensors.plan, envelope, endpoint.expected)
        else:
            plan = self.plans.find(endpoint, endpoint.expected, envelope)
        if plan.is_long(envelope):
            return plan, await asyncio.to_thread(tensors.columns, envelope, plan)
        return plan, tensors.columns(envelope, plan)

    async def stream_infer(self, messages: AsyncIterable[bytes], peer: Peer) -> AsyncIterator[bytes]:
        """Answer ModelInferRequests one by one, in their order; a refusal is an answer, and the stream goes on.

        Whoever may not infer has no stream at all.
        """
        check_role(self.plane.door.caller_of(peer.metadata), frozenset({INFERS}))
        peer = replace(peer, is_of=ignored)  # what ends the stream is of no version
        async for message in messages:
            try:
                yield tagged(2, await self.infer(message, peer) + FINAL)
            except MillError as error:
                yield self._refused(message, error)

    def _refused(self, message: bytes, error: MillError) -> bytes:
        """A refusal within a stream, with the id of the request where it has one that can be read."""
        answer: Value = {"parameters": {"triton_final_response": {"bool_param": True}}}
        try:
            identity = opened(message).id.decode()
        except RequestError:
            identity = ""
        if identity:
            answer["id"] = identity
        document = {"error_message": status(error).message, "infer_response": answer}
        return schema().encode("inference.ModelStreamInferResponse", document)

    async def server_live(self, request: Value, caller: Caller) -> Value:
        """Whether the process answers."""
        return {"live": True}

    async def server_ready(self, request: Value, caller: Caller) -> Value:
        """Whether requests should be sent here."""
        return {"ready": self.plane.state.takes}

    async def model_ready(self, request: Value, caller: Caller) -> Value:
        """Whether a model answers; one that is not served does not."""
        try:
            return {"ready": await self.plane.is_ready(await self._endpoint(request, caller))}
        except (NotServed, Unavailable):
            return {"ready": False}

    async def server_metadata(self, request: Value, caller: Caller) -> Value:
        """Who answers, and which extensions."""
        return documents.server()

    async def model_metadata(self, request: Value, caller: Caller) -> Value:
        """What a version takes and gives."""
        endpoint = await self._endpoint(request, caller)
        return documents.metadata(endpoint, await asyncio.to_thread(self.catalogue.numbers, endpoint.name))

    async def model_config(self, request: Value, caller: Caller) -> Value:
        """A version as Triton's configuration describes it."""
        endpoint = await self._endpoint(request, caller)
        return {"config": documents.config(endpoint, self.plane.engine.capacity.batch_rows, caller)}

    async def model_statistics(self, request: Value, caller: Caller) -> Value:
        """What versions have done since they were loaded: one of them, or all that are served."""
        series = await asyncio.to_thread(self.signals.figures.series)
        if request.get("name"):
            return documents.statistics(self.catalogue, [await self._endpoint(request, caller)], series)
        if request.get("version"):
            raise RequestError("version", "is given without a name", "Give both, or neither.")
        seen = [at for at in self.catalogue.endpoints() if caller.sees(at.name)]
        return documents.statistics(self.catalogue, seen, series)

    async def repository_index(self, request: Value, caller: Caller) -> Value:
        """The models that are served, and those that were unloaded."""
        return {"models": documents.index(self.catalogue, request.get("ready", False), caller)}

    async def load(self, request: Value, caller: Caller, origin: str) -> Value:
        """Serve a model again, or its newest live version now."""
        name = self._model(request)
        documents.check_load(_plain(request))
        await self.plane.load(name, caller, origin)
        return {"model_name": name, "isLoaded": True}

    async def unload(self, request: Value, caller: Caller, origin: str) -> Value:
        """Serve a model no longer, until it is loaded."""
        name = self._model(request)
        await self.plane.unload(name, caller, origin, documents.check_unload(_plain(request)))
        return {"model_name": name, "isUnloaded": True}

    def _model(self, request: Value) -> str:
        """The model's name: field 2, or field 1 as KServe's clients send it."""
        name: str = request.get("model_name") or request.get("repository_name") or ""
        return name

    async def check(self, request: Value, caller: Caller) -> Value:
        """Whether a service takes requests, for grpc.health.v1."""
        service = request.get("service", "")
        if service not in SERVICES:
            raise NotServed("service", f"there is no {service[:80]!r}", f"There are {', '.join(SERVICES[1:])}.")
        return self._health()

    def _health(self) -> Value:
        return {"status": "SERVING" if self.plane.state.takes else "NOT_SERVING"}

    async def watch(self, messages: AsyncIterable[bytes], peer: Peer) -> AsyncIterator[bytes]:
        """The health of a service now, and whenever it changes, until the client leaves."""
        service = ""
        async for message in messages:
            request = schema().decode("grpc.health.v1.HealthCheckRequest", message, UNKNOWN_MOST)
            service = request.get("service", "")
        said: Value = {}
        while True:
            now = self._health() if service in SERVICES else {"status": "SERVICE_UNKNOWN"}
            if now != said:
                yield schema().encode("grpc.health.v1.HealthCheckResponse", now)
                said = now
            if self.plane.state.draining:
                return
            await asyncio.sleep(WATCH_SECONDS)

    async def _endpoint(self, request: Value, caller: Caller) -> Endpoint:
        return await self.plane.endpoint(reference_of(request.get("name", ""), request.get("version")), caller)


async def _awaited(work: asyncio.Future[Outputs]) -> Outputs:
    """The outputs; a call that is cancelled takes its work with it."""
    return await work


def _plain(request: Value) -> dict[str, Any]:
    """The parameters of a request for the repository as plain values."""
    return {name: next(iter(choice.values()), None) for name, choice in request.get("parameters", {}).items()}
