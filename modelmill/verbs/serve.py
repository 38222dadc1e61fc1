"""The verb `serve`: models over HTTP and gRPC."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelmill.errors import MillError, UsageError
from modelmill.serve.models.size import bytes_of
from modelmill.serve.ports import check_apart
from modelmill.serve.process.crew import VARIABLE, worker_of
from modelmill.verbs.options import Quiet

if TYPE_CHECKING:
    from modelmill.registry.registry import Registry

PART = 0.9
"""This part of the machine's memory a process may have: what would need more fails, and nothing is killed."""
LEAST_BYTES = 1 << 29
"""So much a process may have beside its models in any case."""


def serve(
    names: Annotated[list[str] | None, typer.Argument(help="Models to serve; every live one by default.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="HTTP port; 0 takes a free one.", min=0, max=65535)] = 8080,
    grpc_port: Annotated[int, typer.Option(help="gRPC port; 0 takes a free one.", min=0, max=65535)] = 8081,
    grpc: Annotated[bool, typer.Option(help="Serve gRPC.")] = True,
    log: Annotated[
        Path | None, typer.Option(help="Access log, JSON lines; standard error by default.", metavar="FILE")
    ] = None,
    log_ratio: Annotated[
        float, typer.Option(help="Part of the answers in the log; of 5xx but 504, all are in it.", min=0, max=1)
    ] = 0.0,
    trace_ratio: Annotated[
        float | None,
        typer.Option(help="Part of the requests that become OpenTelemetry spans, beside sampled ones.", min=0, max=1),
    ] = None,
    objective: Annotated[
        list[str],
        typer.Option(help="What /api/status measures against: availability, latency_p99_ms, ...", metavar="NAME=VALUE"),
    ] = ["availability=0.999"],
    lead: Annotated[
        float, typer.Option(help="Seconds for which requests are still taken after SIGTERM.", min=0, max=3600)
    ] = 1.0,
    reuse_port: Annotated[
        bool, typer.Option("--reuse-port", help="Listen beside another process: the one before, at a restart.")
    ] = False,
    tls_cert: Annotated[
        Path | None,
        typer.Option(help="Certificate, with those up to its authority; read anew at SIGHUP.", metavar="FILE"),
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The certificate's key.", metavar="FILE")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="Clients must show a certificate of this authority.", metavar="FILE")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let anyone in from other machines while there are no keys.")
    ] = False,
    memory_budget: Annotated[
        str, typer.Option(help="What models may take in memory: 500MB, 4GB; half of the machine's by default.")
    ] = "",
    workers: Annotated[int, typer.Option(help="Processes that serve the port together (Linux).", min=1, max=256)] = 1,
    quiet: Quiet = False,
) -> None:
    """Serve models over HTTP and gRPC: Open Inference Protocol, plain JSON, metrics, and pages for people."""
    options = dict(locals())
    if grpc:
        check_apart(host, port, grpc_port)
    budget_bytes = bytes_of(memory_budget, workers)
    worker = worker_of(os.environ.get(VARIABLE, ""))
    if workers > 1 and worker is None:
        ports = (port, grpc_port if grpc else None)
        raise typer.Exit(supervise(options, workers, host, ports, lead, quiet, tls_cert is not None, reuse_port))
    from modelmill.api import home, registry
    from modelmill.console.pages import Pages
    from modelmill.runtime.memory import bound, keep_apart, machine_bytes
    from modelmill.serve import server
    from modelmill.serve.access.access import Access
    from modelmill.serve.access.tls import files_of
    from modelmill.serve.engine.engine import Capacity, cores
    from modelmill.serve.models.catalogue import Keeping
    from modelmill.serve.models.residents import Budget
    from modelmill.serve.process.crew import follow
    from modelmill.serve.signals.signals import Telling
    from modelmill.serve.signals.status import objective as parse

    keep_apart()  # a process of its own: whoever serves from one that has other work decides for itself
    budget = Budget(budget_bytes)
    capacity = Capacity()
    if worker is not None:
        budget = Budget(budget.bytes // worker.count)
        capacity = Capacity(threads=max(1, cores() // worker.count))
    bound(max(int(PART * machine_bytes()), budget.bytes + LEAST_BYTES))
    keeping = Keeping(budget, forms=home().path / "cache", cores=capacity.threads)
    telling = Telling(log, log_ratio, trace_ratio, dict(map(parse, objective)))
    shelf, place = registry(), home()
    access = Access(place.database, place.path, files_of(tls_cert, tls_key, tls_client_ca), insecure)
    if worker is not None:
        follow(worker.supervisor)
    say: Callable[[str], None] = (
        # Of several workers the supervisor says it, once.
        (lambda text: None) if quiet or worker is not None else (lambda text: print(text, file=sys.stderr, flush=True))
    )

    def ready(url: str) -> None:
        say(f"modelmill serves {url} (Ctrl-C stops it)")
        if not quiet and (worker is None or worker.index == 0) and not names and not has_live(shelf):
            print(NOTHING_LIVE, file=sys.stderr, flush=True)

    server.run(
        shelf,
        names or [],
        host,
        port,
        ready=ready,
        pages=Pages(shelf, place.database),
        limits=server.Limits(capacity, keeping, lead_seconds=lead, reuse_port=reuse_port),
        telling=telling,
        grpc_port=grpc_port if grpc else None,
        grpc_ready=lambda address: say(f"gRPC: {address}"),
        access=access,
        worker=worker,
    )


NOTHING_LIVE = (
    "There is no live model to serve yet; one is served as soon as it is published."
    " Try: modelmill build iris, or: modelmill import model.onnx"
)


def has_live(shelf: Registry) -> bool:
    """Whether any model has a live version."""
    from modelmill.version import LIVE

    return any(LIVE in aliases for aliases in shelf.standing()[1].values())


EARLY = (
    "cryptography.hazmat.primitives.hmac",
    "httptools",
    "uvloop",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.lifespan.off",
    "sqlite3",
    "ssl",
    "modelmill.api",
    "modelmill.console.pages",
    "modelmill.graph.build",
    "modelmill.registry.registry",
    "modelmill.serve.models.forms",
    "modelmill.serve.rpc.front",
    "modelmill.serve.rpc.tensors",
    "modelmill.serve.server",
    "modelmill.serve.traffic.start",
    "modelmill.serve.web.openapi",
    "modelmill.serve.web.protocol",
    "modelmill.store.sqlite",
)
"""What every worker needs, and what starts no thread; with it comes the rest, onnxruntime among it."""


def work(options: dict[str, Any]) -> None:
    """Serve as one of several workers; the command line was read before, which costs more than serving a tiny model."""
    try:
        serve(**options)
    except MillError as error:
        print(f"modelmill: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)


def supervise(
    options: dict[str, Any],
    workers: int,
    host: str,
    ports: tuple[int, int | None],
    lead: float,
    quiet: bool,
    encrypted: bool,
    shared: bool,
) -> int:
    """Start so many processes on the same ports, and look after them; the exit code."""
    from modelmill.api import home
    from modelmill.serve.ports import address_of, reserved
    from modelmill.serve.process.supervisor import DRAIN_SECONDS, Supervisor, crew

    port, grpc_port = ports
    with (
        reserved(host, port, "--port", shared, grpc_port) as held,
        reserved(host, grpc_port or 0, "--grpc-port", shared, held) as grpc_held,
        crew(home().path / "run", workers, held, grpc_held) as found,
    ):

        def ready() -> None:
            where = f"{'https' if encrypted else 'http'}://{address_of(host, held)}"
            if quiet:
                return
            if grpc_port is not None:
                print(f"gRPC: {address_of(host, grpc_held)}", file=sys.stderr)
            print(f"modelmill serves {where} with {workers} workers (Ctrl-C stops it)", file=sys.stderr, flush=True)

        return Supervisor(partial(work, options), EARLY, found, DRAIN_SECONDS + lead).run(ready)
