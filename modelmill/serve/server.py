"""The process around the service: a port, uvicorn, an orderly start, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from types import FrameType, TracebackType
from typing import Any, Self

import uvicorn

from modelmill.errors import MillError
from modelmill.serve import gauges
from modelmill.serve.access.access import LOOPBACK, Access
from modelmill.serve.access.door import OPEN, Door
from modelmill.serve.ebb import ebb
from modelmill.serve.engine.engine import DEFAULT, Capacity, Engine
from modelmill.serve.follower import Follower
from modelmill.serve.handover import give_way, has_data
from modelmill.serve.models import catalogue
from modelmill.serve.models.catalogue import Catalogue, Keeping
from modelmill.serve.models.shelf import Shelf
from modelmill.serve.plane import Plane, State
from modelmill.serve.ports import address_of, listening, url_of
from modelmill.serve.process.crew import Board, Changes, Worker
from modelmill.serve.process.pulse import BEAT_S
from modelmill.serve.rpc.front import Front
from modelmill.serve.rpc.methods import Methods
from modelmill.serve.signals.signals import QUIET, Signals, Telling
from modelmill.serve.traffic.book import Book
from modelmill.serve.traffic.traffic import Traffic
from modelmill.serve.web.app import application
from modelmill.serve.web.express import Express
from modelmill.serve.web.http import Asgi
from modelmill.serve.web.protocol import protocol
from modelmill.store.audit import SERVICE

ACCEPTING_SECONDS = 1.0
"""How long connections are still taken from the port's queue at the end, where nobody else takes new ones meanwhile."""

LAST_SECONDS = 0.1
"""How long what is done at the end may take in any case, with nothing left to wait for."""

PATIENCE_TURNS = 5
"""How many turns the server that drives the rollouts may be silent before another one takes its place."""


@dataclass(frozen=True)
class Limits:
    """What the service takes on, and how it ends."""

    capacity: Capacity = DEFAULT
    keeping: Keeping = catalogue.DEFAULT
    body_bytes: int = 64 * 1024 * 1024
    """The largest request."""
    watch_seconds: float = 1.0
    """How often the registry is asked whether anything changed."""
    lead_seconds: float = 0.0
    """At the end, how long requests are still taken after readiness fell: what a load balancer needs to notice."""
    drain_seconds: float = 30.0
    """At the end, how long requests in flight may take."""
    reuse_port: bool = False
    """Whether another process may listen on the same port: the next one, at a restart."""


def run(
    registry: Shelf,
    names: Sequence[str] = (),
    host: str = "127.0.0.1",
    port: int = 8080,
    ready: Callable[[str], None] | None = None,
    pages: Asgi | None = None,
    limits: Limits = Limits(),
    telling: Telling = QUIET,
    grpc_port: int | None = None,
    grpc_ready: Callable[[str], None] | None = None,
    access: Access = LOOPBACK,
    worker: Worker | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is told the URL once requests are answered.

    With `grpc_port`, gRPC is served too, 0 being a free port; `grpc_ready` is told its address, before `ready`.
    Without names every model with a live version is served. A `worker` is one of several processes on its ports.
    Raises WorkError if the port is taken, or if anyone could enter from another machine; UnknownModel for a name that
    the registry does not have.
    """
    if worker is not None:
        port, grpc_port = worker.port, None if grpc_port is None else worker.grpc_port
    shared = limits.reuse_port or worker is not None
    with listening(host, port, shared, other=grpc_port) as listener:
        gate = None if grpc_port is None else Gate(host, grpc_port, grpc_ready)
        door = access.door(host, listener.getsockname()[1], shared)
        Server(registry, names, listener, ready, pages, limits, telling, gate, door, worker).run([listener])


@dataclass
class Gate:
    """Where gRPC is served: the port that is wanted, and the address that was had; it is set when the service is up."""

    host: str
    port: int
    ready: Callable[[str], None] | None = None
    url: str = ""


class Service:
    """A running service in a thread of this process, for tests and demonstrations: `with Service(...) as service`."""

    def __init__(
        self,
        registry: Shelf,
        names: Sequence[str] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        pages: Asgi | None = None,
        limits: Limits = Limits(),
        telling: Telling = QUIET,
        grpc_port: int | None = None,
        access: Access = LOOPBACK,
    ) -> None:
        self.stack = contextlib.ExitStack()
        self.gate = None if grpc_port is None else Gate(host, grpc_port)
        self.listener = self.stack.enter_context(listening(host, port, limits.reuse_port, other=grpc_port))
        self.up = threading.Event()
        door = access.door(host, self.listener.getsockname()[1])
        self.server = Server(
            registry, names, self.listener, lambda _: self.up.set(), pages, limits, telling, self.gate, door
        )
        self.url = self.server.url
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="modelmill-serve", daemon=True)

    @property
    def grpc_url(self) -> str:
        """Where gRPC is served, as HOST:PORT; empty where it is not."""
        return self.gate.url if self.gate is not None else ""

    def __enter__(self) -> Self:
        """Start, and come back when requests are answered. Raises what kept it from starting."""
        self.thread.start()
        self.up.wait()
        if self.failure is not None:
            self.stack.close()
            raise self.failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End as SIGTERM does: requests in flight are answered first."""
        self.close()

    def close(self) -> None:
        """Drain and end; nothing happens the second time."""
        self.server.drain()
        self.thread.join()
        self.stack.close()

    def _run(self) -> None:
        try:
            self.server.run([self.listener])
        except BaseException as error:
            self.failure = error
            if self.up.is_set():
                raise
        finally:
            self.up.set()


class Server(uvicorn.Server):  # type: ignore[misc]
    """uvicorn with our start and end: models are loaded before the first request, readiness falls before the last."""

    def __init__(
        self,
        registry: Shelf,
        names: Sequence[str],
        listener: socket.socket,
        ready: Callable[[str], None] | None,
        pages: Asgi | None,
        limits: Limits,
        telling: Telling = QUIET,
        gate: Gate | None = None,
        door: Door = OPEN,
        worker: Worker | None = None,
    ) -> None:
        self.worker = worker
        self.door = door
        self.url = url_of(listener, door.host, door.is_encrypted)
        self.gate = gate
        self.ready = ready
        self.limits = limits
        self.state = State()
        if worker is not None:
            self.state.board = Board(worker.folder, worker.count)
            self.state.changes = Changes(worker.folder, worker.count, worker.index)
        folder, index = (None, 0) if worker is None else (worker.folder, worker.index)
        self.signals = Signals(telling, folder, index, registry.database)
        keeping = kept_by(door, limits.keeping, 1 if worker is None else worker.count)
        self.catalogue = Catalogue(registry, names, self.signals.figures.of, keeping, folder)
        self.engine = Engine(limits.capacity)
        book, patience_s = Book(registry.database, SERVICE), PATIENCE_TURNS * limits.watch_seconds
        self.traffic = Traffic(book, registry.by(SERVICE), self.catalogue, self.engine, patience_s)
        plane = self.plane = Plane(self.catalogue, self.engine, self.state, self.traffic, door)
        app = application(plane, self.signals, pages, limits.body_bytes)
        super().__init__(_config(app, Express(plane, self.signals, limits.body_bytes), limits))
        self.loop: asyncio.AbstractEventLoop | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.listeners: tuple[socket.socket, ...] = ()
        self.front: Front | None = None
        self.deadline: float | None = None
        """When the end waits no longer for what is in flight; None as long as there is none to wait for."""
        self.follower = Follower(plane, self.signals, limits.watch_seconds)

    async def _serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Load, serve, end."""
        self.loop = self.catalogue.loop = asyncio.get_running_loop()
        self.listeners = tuple(sockets or ())
        try:
            await asyncio.to_thread(self.catalogue.start)
            if self.is_ending:
                return
            await self.follower.begin()
            kept = (self.follower.follow(), self.follower.remember(), ebb(self.catalogue.residents.held))
            watches = [asyncio.create_task(each) for each in kept]
            try:
                async with self._grpc():
                    await super()._serve(sockets)
            finally:
                for watch in watches:
                    watch.cancel()
                await asyncio.gather(*watches, return_exceptions=True)
                await self.follower.leave()
        finally:
            self.engine.close()
            await asyncio.to_thread(self.catalogue.close)
            await asyncio.to_thread(self.signals.close)

    @property
    def is_ending(self) -> bool:
        """Whether it was told to end, maybe before it was up."""
        return self.state.draining or self.should_exit

    @contextlib.asynccontextmanager
    async def _grpc(self) -> AsyncIterator[None]:
        """The gRPC port, if there is to be one: it opens before HTTP's, and closes after it."""
        if self.gate is None:
            yield
            return
        front = Front(Methods(self.plane, self.signals), self.state, self.limits.body_bytes)
        shared = self.limits.reuse_port or self.worker is not None
        other = self.listeners[0].getsockname()[1]
        with listening(self.gate.host, self.gate.port, shared, "--grpc-port", other) as listener:
            tls = self.door.tls
            await front.start(listener, tls.offering("h2") if tls is not None else None)
            self.listeners += (listener,)
            self.front = front
            self.gate.url = address_of(self.gate.host, listener.getsockname()[1])
            if self.gate.ready is not None and not self.is_ending:
                self.gate.ready(self.gate.url)
            try:
                yield
            finally:
                await front.stop(self._left(), lambda: self.force_exit)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        if self.door.tls is not None:
            self.config.ssl = self.door.tls.offering("http/1.1")
        self._listen_to_hangups()
        gc.collect()
        gc.freeze()  # what is there now stays: looking through it again and again would hold requests up
        await super().startup(sockets)
        if self.is_ending:
            self.should_exit = True
            return
        self.state.ready = True
        self._mark(True)
        self._beat()
        if self.ready is not None:
            self.ready(self.url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the port and what is idle, but answer first whatever has come, read or not; then end as uvicorn does.

        A socket that is closed while something waits in it is reset by the kernel, and so is a connection in the port's
        queue: to its client that is a request that failed. Where the next process is there already, idle connections
        are given time: their clients close them, or come once more, and are told with the answer to open another.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._left()
        longest = deadline if self.limits.reuse_port else loop.time() + ACCEPTING_SECONDS
        while any(has_data(listener) for listener in self.listeners) and loop.time() < longest:
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        while (self.server_state.connections or self.is_answering) and loop.time() < deadline and not self.force_exit:
            if not self.limits.reuse_port:
                for connection in list(self.server_state.connections):
                    if not has_data(connection.transport.get_extra_info("socket").fileno()):
                        connection.shutdown()
            await asyncio.sleep(0.01)
        self.engine.refuse()  # what takes longer than it may is told so
        self.config.timeout_graceful_shutdown = max(LAST_SECONDS, self._left())
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()  # whoever does not read what waits for them

    def _listen_to_hangups(self) -> None:
        """Hear SIGHUP, which would end the process at once; a service in a thread has no such signal."""
        with contextlib.suppress(ValueError, RuntimeError, AttributeError, NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.hang_up)

    def hang_up(self) -> None:
        """Read anew what may be: certificates, and where the log is. Without either the terminal is gone: drain."""
        if self.door.tls is None and self.signals.telling.log is None and self.worker is None:
            self.drain()
        else:
            self.reload()

    def reload(self) -> None:
        """Open the log anew, and take the certificates as they are now; those that cannot be used change nothing."""
        try:
            self.signals.reopen()
        except OSError as error:
            print(f"modelmill serve: the log stays where it was: {error}", file=sys.stderr)
        if self.door.tls is None:
            return
        try:
            self.door.tls.reload()
            print("modelmill serve: the certificates are read anew", file=sys.stderr)
        except MillError as error:
            print(f"modelmill serve: the certificates stay as they were: {error}", file=sys.stderr)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal, end at the second."""
        if self.state.draining:
            self.should_exit = True
            self.force_exit = sig == signal.SIGINT
        else:
            self.drain()

    def drain(self) -> None:
        """Let readiness fall, and end when what is in flight is answered; from any thread, any number of times."""
        if self.loop is None or self.loop.is_closed():
            self.should_exit = True
            return
        if not self.state.draining:
            self.state.draining = True
            self._mark(False)
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._keep, self._end)

    def _mark(self, ready: bool) -> None:
        """Let the other workers know, and whoever reads the figures."""
        gauges.write(self.signals.figures, self.plane, self.signals.worker == 0)
        if self.worker is not None and self.state.board is not None:
            self.state.board.mark(self.worker.index, ready)

    def _beat(self) -> None:
        """Let the supervisor know that the loop turns."""
        if self.worker is not None and self.state.board is not None and not self.state.draining:
            self.state.board.beat(self.worker.index)
            asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def _keep(self, work: Callable[[], Any]) -> None:
        task = asyncio.ensure_future(work())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _end(self) -> None:
        if not self.started:  # nobody was told that it is up
            self.should_exit = True
            self.catalogue.stop()
            return
        if self.limits.reuse_port:
            # Among many workers the second socket of the port is anybody's.
            for listener in self.listeners if self.worker is None else ():
                give_way(listener)
            if self.front is not None:
                self.front.warn()
        for connection in tuple(self.server_state.connections):
            if hasattr(connection, "begin"):
                connection.begin()
        await asyncio.sleep(self.limits.lead_seconds)
        # Whoever had a lead, or whose port is handed on, was told to go elsewhere; who comes still is answered like the
        # others, since a call can cross the warning.
        self.state.refusing = not (self.limits.lead_seconds or self.limits.reuse_port)
        if self.front is not None:
            self.front.part()
        while self.is_answering and self._left() and not self.force_exit:
            await asyncio.sleep(0.01)
        self.should_exit = True

    @property
    def is_answering(self) -> bool:
        """Whether somebody waits for an answer: a stream, too, though it is not in flight while nothing comes."""
        return self.state.in_flight > 0 or (self.front is not None and self.front.is_streaming)

    def _left(self) -> float:
        """Seconds that what is in flight may still take, from the first time that this is asked."""
        now = asyncio.get_running_loop().time()
        if self.deadline is None:
            self.deadline = now + self.limits.drain_seconds
        return max(0.0, self.deadline - now)


def kept_by(door: Door, keeping: Keeping, processes: int) -> Keeping:
    """What is kept where tenants have models of their own, each of so many processes having its part of a tenant's."""
    keyring = door.keyring
    if keyring is None:
        return keeping

    def owners(name: str) -> dict[str, int]:
        return {owner: size // processes for owner, size in keyring.memory(name).items()}

    return replace(keeping, budget=replace(keeping.budget, owners=owners))


def _config(app: Any, express: Express, limits: Limits) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=protocol(express),
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=max(1, round(limits.drain_seconds)),
    )
