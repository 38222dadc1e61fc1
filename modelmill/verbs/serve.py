"""The verb `serve`: models over HTTP and gRPC."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from modelmill.verbs.options import Quiet


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
        float, typer.Option(help="Part of the good answers in the log; failures are always in it.", min=0, max=1)
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
    quiet: Quiet = False,
) -> None:
    """Serve models over HTTP and gRPC: Open Inference Protocol, plain JSON, metrics, and pages for people."""
    from modelmill.api import home, registry
    from modelmill.console.pages import Pages
    from modelmill.serve import server
    from modelmill.serve.access.access import Access
    from modelmill.serve.access.tls import files_of
    from modelmill.serve.models.catalogue import Keeping
    from modelmill.serve.models.residents import Budget, bytes_of
    from modelmill.serve.signals.signals import Telling
    from modelmill.serve.signals.status import objective as parse

    keeping = Keeping(Budget(bytes_of(memory_budget)), forms=home().path / "cache")
    telling = Telling(log, log_ratio, trace_ratio, dict(map(parse, objective)))
    shelf, place = registry(), home()
    access = Access(place.database, place.path, files_of(tls_cert, tls_key, tls_client_ca), insecure)
    say: Callable[[str], None] = (
        (lambda text: None) if quiet else (lambda text: print(text, file=sys.stderr, flush=True))
    )

    def ready(url: str) -> None:
        say(f"modelmill serves {url} (Ctrl-C stops it)")

    server.run(
        shelf,
        names or [],
        host,
        port,
        ready=ready,
        pages=Pages(shelf, place.database),
        limits=server.Limits(keeping=keeping, lead_seconds=lead, reuse_port=reuse_port),
        telling=telling,
        grpc_port=grpc_port if grpc else None,
        grpc_ready=lambda address: say(f"gRPC: {address}"),
        access=access,
    )
