"""The pages at `/`: the models that are served, each with a place to try it, and the searches of the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

from modelmill.errors import UnknownModel, UsageError
from modelmill.evaluate.words import duration
from modelmill.release import __version__
from modelmill.serve import views
from modelmill.serve.models.shelf import Shelf
from modelmill.serve.web.app import SAFETY
from modelmill.serve.web.http import (
    Receive,
    Reply,
    Scope,
    Send,
    as_json,
    no_such_path,
    path_parts,
    send_reply,
    wants_page,
    wrong_method,
)
from modelmill.version import Version

if TYPE_CHECKING:
    import jinja2

    from modelmill.console.runs import Runs
    from modelmill.store.database import Database

HERE = Path(__file__).parent
STATIC = HERE / "static"
PICTURES = HERE.parent / "evaluate"
"""Where the pictures of a search have their look, their script and their pieces of pages."""
SHARED = ("pictures.css", "pictures.js")
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True)
class Visitor:
    """What the service says, in the scope's state, of who looks at a page."""

    served: Mapping[str, int] | None = None
    """The models that are served to them, by name their number; without it whatever is live."""
    signed_in: bool = False
    """Whether they have a key."""
    pages: frozenset[str] = frozenset({"runs", "report", "metrics"})
    """Of the pages that not every key opens, those that theirs does."""


ANYONE = Visitor()


@dataclass(frozen=True, eq=False)
class Pages:
    """An ASGI callable for `/`, `/models/NAME`, `/runs`, `/api/runs` and `/static/...`, and for what is nowhere."""

    shelf: Shelf
    ledger: Database | None = None
    """The database whose searches are shown at `/runs`; none are without one."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        state = scope.get("state", {})
        visitor = Visitor(**{field.name: state[field.name] for field in fields(Visitor) if field.name in state})
        parts = path_parts(scope.get("raw_path") or scope["path"].encode())
        if scope["method"] not in ("GET", "HEAD"):
            await send_reply(wrong_method(("GET",), scope["method"]), send)
            return
        if parts[0] == "static":
            reply = self.static("/".join(parts[1:]), visitor)
        elif parts == ["favicon.ico"]:
            reply = self.static("mark.svg", visitor)
        elif parts[:2] == ["api", "runs"]:
            reply = await asyncio.to_thread(self.data, parts[2:])
        elif parts[0] == "runs" and self._runs is not None:
            query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
            reply = await asyncio.to_thread(self.run, parts[1:], query.get("since", [""])[0], visitor)
        else:
            reply = await asyncio.to_thread(self.page, parts, visitor)
        if reply.status == 404 and reply.content_type == HTML and not wants_page(scope["headers"]):
            reply = no_such_path("/".join(parts))
        await send_reply(reply, send)

    def page(self, parts: list[str], visitor: Visitor) -> Reply:
        """The page at a path."""
        if parts in ([""], ["models"]):
            return self.index(visitor)
        if len(parts) == 2 and parts[0] == "models":
            return self.model(parts[1], visitor)
        return self.missing("There is no such page.", visitor)

    def index(self, visitor: Visitor) -> Reply:
        """The list of models."""
        served = visitor.served
        references = self._live() if served is None else [f"{name}@{number}" for name, number in served.items()]
        found = [self.shelf.find(reference) for reference in references]
        models = [{**self._summary(version), "link": f"/models/{quote(version.name)}"} for version in found]
        return self._render("index.html", 200, visitor, models=models)

    def model(self, reference: str, visitor: Visitor) -> Reply:
        """The page of one model, or of one of its versions."""
        served = visitor.served
        name, at, _ = reference.partition("@")
        if served is not None and name not in served:
            return self.missing(f"No model named {name[:80]} is served here.", visitor)
        asked = reference if at or served is None else f"{name}@{served[name]}"
        try:
            version = self.shelf.find(asked)
        except (UnknownModel, UsageError) as error:
            return self.missing(error.message, visitor)
        detail = views.detail(version, self.shelf.versions(version.name))
        present = served[name] if served is not None else version.number
        reference = version.name if version.number == present else version.reference
        return self._render("model.html", 200, visitor, model=detail, reference=reference, served=present)

    def run(self, parts: list[str], since: str, visitor: Visitor = ANYONE) -> Reply:
        """The list of runs, the page of one, or, for `/runs/ID/live`, what changes of it."""
        assert self._runs is not None, "asked for only where there is a ledger"
        if parts in ([], [""]):
            return self._render("runs.html", 200, visitor, runs=self._runs.listed())
        wanted = parts[0]
        if not (wanted.isdecimal() and len(wanted) < 10 and (len(parts) == 1 or parts[1:] == ["live"])):
            return self.missing("There is no such page.", visitor)
        shown = self._runs.live(int(wanted), since)
        if shown is None:
            return self.missing(f"There is no run {wanted}.", visitor)
        if not shown["changed"]:
            return Reply(204, b"", HTML, SAFETY)
        return self._render("live.html" if len(parts) == 2 else "run.html", 200, visitor, **shown)

    def data(self, parts: list[str]) -> Reply:
        """The runs, or one of them, as JSON."""
        if self._runs is None:
            return _unknown("no ledger is shown here")
        if not parts:
            return as_json({"runs": self._runs.listed()})
        wanted = parts[0]
        found = self._runs.one(int(wanted)) if len(parts) == 1 and wanted.isdecimal() and len(wanted) < 10 else None
        return _unknown(f"there is no run {'/'.join(parts)[:80]}") if found is None else as_json(found)

    def missing(self, message: str, visitor: Visitor) -> Reply:
        """The page that says what is not there, and where to go."""
        return self._render("missing.html", 404, visitor, message=message)

    def static(self, name: str, visitor: Visitor) -> Reply:
        """A style sheet or script, if it is one of ours."""
        body = self._files.get(name)
        if body is None:
            return self.missing("There is no such file.", visitor)
        kind = TYPES[Path(name).suffix]
        return Reply(200, body, f"{kind}; charset=utf-8", (*SAFETY, ("cache-control", "no-cache")))

    def _live(self) -> list[str]:
        return [name for name in self.shelf.names() if any("live" in v.aliases for v in self.shelf.versions(name))]

    def _summary(self, version: Version) -> dict[str, Any]:
        numbers = [other.number for other in self.shelf.versions(version.name)]
        return views.summary(version, numbers)

    def _render(self, template: str, status: int, visitor: Visitor, **values: Any) -> Reply:
        body = self._templates.get_template(template).render(
            mill=__version__, with_runs=self._runs is not None, visitor=visitor, **values
        )
        return Reply(status, body.encode(), HTML, SAFETY)

    @cached_property
    def _runs(self) -> Runs | None:
        """The searches; what draws them is loaded when they are first asked for."""
        if self.ledger is None:
            return None
        from modelmill.console.runs import Runs

        return Runs(self.ledger)

    @cached_property
    def _files(self) -> dict[str, bytes]:
        own = {path.name: path.read_bytes() for path in STATIC.iterdir() if path.suffix in TYPES}
        return own | {name: (PICTURES / name).read_bytes() for name in SHARED}

    @cached_property
    def _templates(self) -> jinja2.Environment:
        import jinja2

        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader([HERE / "templates", PICTURES]),
            autoescape=True,
            auto_reload=False,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["bytes"] = in_kilobytes
        environment.filters["day"] = as_day
        environment.filters["quote"] = quote
        environment.filters["duration"] = duration
        return environment


def _unknown(message: str) -> Reply:
    return as_json({"error": f"{message}. See /api/runs."}, 404)


def in_kilobytes(size: int | None) -> str:
    """A size as people read it.

    >>> in_kilobytes(48213)
    '48.2 kB'
    """
    if size is None:
        return "–"
    return f"{size / 1000:.1f} kB" if size < 1_000_000 else f"{size / 1_000_000:.1f} MB"


def as_day(milliseconds: int) -> str:
    """A moment as a day and a time, UTC.

    >>> as_day(0)
    '1970-01-01 00:00'
    """
    from datetime import UTC, datetime

    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M")
