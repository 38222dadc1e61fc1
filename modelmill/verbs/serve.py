"""The verb `serve`: models over HTTP."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from modelmill.verbs.options import Quiet


def serve(
    names: Annotated[list[str] | None, typer.Argument(help="Models to serve; every live one by default.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="HTTP port; 0 takes a free one.", min=0, max=65535)] = 8080,
    grpc_port: Annotated[int, typer.Option(help="Accepted, and not used yet.", min=0, max=65535)] = 8081,
    quiet: Quiet = False,
) -> None:
    """Serve models over HTTP: Open Inference Protocol, plain JSON, metrics, and pages for people."""
    from modelmill.api import home, registry
    from modelmill.console.pages import Pages
    from modelmill.serve import server

    shelf = registry()
    say: Callable[[str], None] = (
        (lambda text: None) if quiet else (lambda text: print(text, file=sys.stderr, flush=True))
    )

    def ready(url: str) -> None:
        say(f"modelmill serves {url} (Ctrl-C stops it)")
        say(f"gRPC is not served yet: --grpc-port {grpc_port} is unused.")

    server.run(shelf, names or [], host, port, ready=ready, pages=Pages(shelf, home().database))
