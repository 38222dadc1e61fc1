"""The service as one ASGI callable: paths to handlers, and a handler is a few lines."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from modelmill.errors import Forbidden, MillError, OverQuota, RequestError, StorageError, Unidentified
from modelmill.runtime import rows
from modelmill.runtime.pieces import joined
from modelmill.serve import documents, gauges
from modelmill.serve.access.caller import ANYONE, Caller
from modelmill.serve.access.door import check, check_breadth, check_sight, pages_of
from modelmill.serve.access.needs import ANY_KEY, LOOK, OF_ALL, STUDY, Need, of_page
from modelmill.serve.inputs import kind
from modelmill.serve.models.endpoint import Endpoint
from modelmill.serve.packed import Room, at_once
from modelmill.serve.plane import Ask, Plane, reference_of
from modelmill.serve.request import LONG_ELEMENTS, elements, flag, no_room
from modelmill.serve.signals.answer import Answer
from modelmill.serve.signals.kinds import is_failure
from modelmill.serve.signals.signals import Signals
from modelmill.serve.signals.trace import parent
from modelmill.serve.web import bodies, log, openapi, signin, wire
from modelmill.serve.web.deployments import Deployments
from modelmill.serve.web.http import (
    FAILED,
    Asgi,
    Call,
    ClientLeft,
    Guarded,
    Handler,
    Receive,
    Reply,
    Routes,
    Scope,
    Send,
    as_json,
    as_last,
    no_such_path,
    path_parts,
    send_last,
    send_reply,
    stamped,
    telling,
    told,
    wants_page,
    worded,
    wrong_method,
)
from modelmill.serve.web.wire import parameters

Outputs = dict[str, np.ndarray[Any, Any]]

CONTROL_BYTES = 65_536
"""The largest body of a request for anything but predictions: it is read on the loop, while others wait."""

BYTES = "application/octet-stream"
"""The type of a body with tensors as bytes."""

DOCUMENTED = 100
"""Models whose rows the OpenAPI document describes."""

DOCS = Path(__file__).parent / "docs_page"
DOCS_FILES = {
    "docs": ("docs.html", "text/html"),
    "docs.js": ("docs.js", "text/javascript"),
    "docs.css": ("docs.css", "text/css"),
}
SAFETY = (
    ("content-security-policy", "default-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
)
"""Headers of every page for people."""

REPORT_SAFETY = (
    (
        "content-security-policy",
        "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    *SAFETY[1:],
)
"""A report is one file with its style and script within, under a policy of its own; here it reaches nothing."""


def application(plane: Plane, signals: Signals, pages: Asgi | None, body_limit: int) -> Asgi:
    """The ASGI callable. Paths that it does not know go to `pages`, if they are not the API's."""
    app = App(plane, signals, body_limit)

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await app.answer(scope, receive, send, pages)

    return call


class App:
    """The handlers, and what they need; beside the rooms, everything that changes lies in what it is given."""

    def __init__(self, plane: Plane, signals: Signals, body_limit: int) -> None:
        self.plane = plane
        self.catalogue = plane.catalogue
        self.state = plane.state
        self.door = plane.door
        self.signals = signals
        self.first = signals.worker == 0
        self.body_limit = body_limit
        self.rooms: defaultdict[str, Room] = defaultdict(Room)
        """Of every tenant."""
        self.routes = Routes(self.table())

    def served(self, caller: Caller = ANYONE) -> list[Endpoint]:
        """What NAME alone reaches, is in memory, and the caller sees, by name."""
        return [endpoint for endpoint in self.catalogue.endpoints() if caller.sees(endpoint.name)]

    def table(self) -> dict[str, dict[str, Handler]]:
        """Every path of the service, and what answers it."""
        model = "v2/models/{name}"
        version = "v2/models/{name}/versions/{version}"
        return {
            "v2": {"GET": self.server_metadata},
            "v2/health/live": {"GET": self.live},
            "v2/health/ready": {"GET": self.ready},
            "v2/models/stats": {"GET": self.all_statistics},
            model: {"GET": self.metadata},
            version: {"GET": self.metadata},
            f"{model}/ready": {"GET": self.model_ready},
            f"{version}/ready": {"GET": self.model_ready},
            f"{model}/infer": {"POST": self.infer},
            f"{version}/infer": {"POST": self.infer},
            f"{model}/config": {"GET": self.config},
            f"{version}/config": {"GET": self.config},
            f"{model}/stats": {"GET": self.statistics},
            f"{version}/stats": {"GET": self.statistics},
            "v2/repository/index": {"POST": self.index},
            "v2/repository/models/{name}/load": {"POST": self.load},
            "v2/repository/models/{name}/unload": {"POST": self.unload},
            "predict/{name}": {"POST": self.predict},
            "api/models": {"GET": self.models},
            "api/models/{name}": {"GET": self.model},
            "api/models/{name}/report": {"GET": self.report},
            "api/status": {"GET": self.status},
            **Deployments(self.catalogue).table(),
            "api/audit": {"GET": self.audit},
            "signin": {"GET": self.signin_page, "POST": self.signin},
            "signout": {"POST": self.signout},
            "metrics": {"GET": self.metrics},
            "openapi.json": {"GET": self.openapi},
            **{path: {"GET": self.docs} for path in DOCS_FILES},
        }

    async def answer(self, scope: Scope, receive: Receive, send: Send, pages: Asgi | None) -> None:
        """Answer one request, whatever comes."""
        parts = path_parts(scope.get("raw_path") or scope["path"].encode())
        found = self.routes.match(parts)
        theirs = parts[0] not in ("v2", "api", "predict") or parts[:2] == ["api", "runs"]
        started = time.perf_counter()
        handlers, names = found if found is not None else ({}, {})
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        call = Call(method, "/".join(parts), names, scope["headers"], receive, self.body_limit)
        if not call.infers:
            call.body_limit = min(CONTROL_BYTES, self.body_limit)
        call.query = scope.get("query_string", b"")
        call.origin = (scope.get("client") or ("",))[0]
        if found is None and pages is not None and theirs:
            await self._page(call, parts, scope, send, pages)
            return
        self.state.in_flight += 1
        try:
            reply = await self._reply(call, handlers, known=found is not None)
        except ClientLeft:
            reply = None
        except Exception:
            await send_reply(stamped(told(FAILED, call.caller), *call.which), send)
            self._count(call, 500, started)
            raise
        finally:
            self.state.in_flight -= 1
            if call.held_bytes:
                self.rooms[call.caller.tenant].give_back(call.held_bytes)
        self._count(call, reply.status if reply else 499, started, len(reply.body) if reply else 0)
        if reply is not None:
            if call.is_cut_short:
                await send_last(reply, send, receive)
            else:
                await send_reply(as_last(reply) if self.state.draining else reply, send)

    async def _page(self, call: Call, parts: list[str], scope: Scope, send: Send, pages: Asgi) -> None:
        """Let the pages for people answer, if whoever asks may see them."""
        try:
            self._enter(call, of_page(parts))
            if of_page(parts) == STUDY and not call.caller.sight.everything:
                raise Forbidden(
                    "key", "does not see every model, and searches are shown to those that do", "Use another key."
                )
        except MillError as error:
            await send_reply(told(self._refusal(call, error), call.caller), send)
            return
        served = {name: number for name, number in self.catalogue.known.numbers.items() if call.caller.sees(name)}
        visitor = {"served": served, "signed_in": bool(call.caller.key_id), "pages": pages_of(call.caller)}
        scope["state"] = {**scope.get("state", {}), **visitor}
        await pages(scope, call.receive, telling(send, call.caller))

    def _enter(self, call: Call, need: Need) -> None:
        """Find out who asks, and bound what they may send. Raises Unidentified, Forbidden, OverQuota."""
        if need is None:
            return
        call.caller = caller = self.door.admit(call.headers, changes=call.method != "GET")
        check(caller, need)
        if call.path in OF_ALL:
            check_breadth(caller)
        if "name" in call.names:
            check_sight(caller, reference_of(call.names["name"], call.names.get("version")))
        if caller.tier.payload_bytes < call.body_limit:
            call.body_limit = caller.tier.payload_bytes

    def _refusal(self, call: Call, error: MillError) -> Reply:
        """The answer to what went wrong; whoever sits before a browser is shown where to sign in."""
        call.over_quota = isinstance(error, OverQuota)
        if isinstance(error, StorageError):
            print(f"modelmill serve: {error}", file=sys.stderr)
        if call.infers and "name" in call.names and not call.which[0]:
            with suppress(RequestError):
                call.which = self.plane.asked(error, call.names["name"], call.names.get("version"), call.caller)
        if isinstance(error, Unidentified) and call.method == "GET" and wants_page(call.headers):
            return signin.redirect(call.path, call.query)
        return worded(error, call.caller)

    def _count(self, call: Call, code: int, started: float, bytes_out: int = 0) -> None:
        face = call.path.partition("/")[0]
        if call.infers:
            seconds = time.perf_counter() - started
            traces = call.values("traceparent") if self.signals.tells_traces or is_failure(code) else []
            above = parent(traces[0], ",".join(call.values("tracestate"))) if len(traces) == 1 else None
            sizes = (call.bytes_in, bytes_out)
            tenant = call.caller.tenant
            over = call.over_quota
            self.signals.answered(Answer(face, *call.which, code, seconds, call.id, above, sizes, tenant, over))

    async def _reply(self, call: Call, handlers: Guarded, known: bool) -> Reply:
        handler, need = handlers.get(call.method, (None, ANY_KEY))
        try:
            self._enter(call, need)
            if not known:
                return told(no_such_path(call.path), call.caller)
            if handler is None:
                return told(wrong_method(handlers, call.method), call.caller)
            reply = await handler(call)
        except MillError as error:
            reply = self._refusal(call, error)
        except MemoryError:
            reply = self._refusal(call, no_room())
        return stamped(told(reply, call.caller), *call.which)

    async def live(self, call: Call) -> Reply:
        """Whether the process answers."""
        return as_json({"live": True})

    async def ready(self, call: Call) -> Reply:
        """Whether requests should be sent here."""
        ready = self.state.takes
        return as_json({"live": True, "ready": ready}, 200 if ready else 503)

    async def server_metadata(self, call: Call) -> Reply:
        """Who answers, and which extensions."""
        return as_json(documents.server())

    async def metadata(self, call: Call) -> Reply:
        """What a model takes and gives."""
        endpoint = await self._endpoint(call)
        numbers = await asyncio.to_thread(self.catalogue.numbers, endpoint.name)
        return as_json(documents.metadata(endpoint, numbers))

    async def config(self, call: Call) -> Reply:
        """A model as Triton's configuration describes it."""
        endpoint = await self._endpoint(call)
        return as_json(documents.config(endpoint, self.plane.engine.capacity.batch_rows, call.caller))

    async def all_statistics(self, call: Call) -> Reply:
        """What all served models have done since they were loaded."""
        return as_json(await self._statistics(self.served(call.caller)))

    async def statistics(self, call: Call) -> Reply:
        """What a model has done since it was loaded."""
        return as_json(await self._statistics([await self._endpoint(call)]))

    async def _statistics(self, endpoints: Sequence[Endpoint]) -> documents.Document:
        series = await asyncio.to_thread(self.signals.figures.series)
        return documents.statistics(self.catalogue, endpoints, series)

    async def model_ready(self, call: Call) -> Reply:
        """Whether a model answers."""
        endpoint = await self._endpoint(call)
        ready = await self.plane.is_ready(endpoint)
        return as_json({"name": endpoint.name, "ready": ready}, 200 if ready else 503)

    async def index(self, call: Call) -> Reply:
        """The models that are served, and those that were unloaded."""
        wanted = await self._object(call)
        ready = wanted.get("ready")
        ready = False if ready is None else flag("ready", ready)
        return as_json(documents.index(self.catalogue, ready, call.caller))

    async def load(self, call: Call) -> Reply:
        """Serve a model again, or its newest live version now."""
        documents.check_load(parameters("parameters", await self._object(call)))
        await self.plane.load(call.names["name"], call.caller, call.origin)
        return as_json({})

    async def unload(self, call: Call) -> Reply:
        """Serve a model no longer, until it is loaded."""
        dependents = documents.check_unload(parameters("parameters", await self._object(call)))
        await self.plane.unload(call.names["name"], call.caller, call.origin, dependents)
        return as_json({})

    async def _object(self, call: Call) -> dict[str, Any]:
        """The body as an object; none is an empty one."""
        body = await call.body()
        found = wire.parse(body) if body else {}
        if not isinstance(found, dict):
            raise RequestError("body", f"expected a JSON object, came {kind(found)}", "Send {} or nothing.")
        return found

    async def infer(self, call: Call) -> Reply:
        """Answer an inference request of the protocol."""
        arrived = asyncio.get_running_loop().time()
        ask, endpoint, body = await self._begin(call, arrived)
        length = call.header("inference-header-content-length")
        is_binary = any(kind.lower().startswith(BYTES) for kind in call.values("content-type"))
        said = (body, length, endpoint.expected, is_binary)
        if wire.is_long(body, length, endpoint.expected):
            request = await asyncio.to_thread(wire.read, *said)
        else:
            request = wire.read(*said)
        call.id = request.id
        terms = request.wishes.terms(ask.terms, arrived)
        if terms is not ask.terms:
            ask = replace(ask, terms=terms)
        outputs = await self.plane.run(ask, endpoint, request.columns, request.rows, request.names, call.unless_gone)
        written = (request, outputs, endpoint.expected, endpoint.name, endpoint.number)
        with self.signals.encoding(endpoint.name, endpoint.label):
            if wire.is_long_to_write(request, elements(outputs)):
                answer = await asyncio.to_thread(wire.write, *written)
            else:
                answer = wire.write(*written)
        if answer.json_bytes is None:
            return Reply(200, answer.body)
        part = ("inference-header-content-length", str(answer.json_bytes))
        return Reply(200, answer.body, BYTES, (part,))

    async def predict(self, call: Call) -> Reply:
        """Answer rows, an image or a sound in plain JSON."""
        ask, endpoint, body = await self._begin(call)
        kind = call.header("content-type")
        if bodies.is_long(body, kind):
            columns = await asyncio.to_thread(bodies.columns, body, kind, endpoint.signature)
        else:
            columns = bodies.columns(body, kind, endpoint.signature)
        count = endpoint.expected.rows(columns)
        parts = await self.plane.run_pieces(ask, endpoint, columns, count, call.unless_gone)

        answered = (parts, endpoint, count)
        with self.signals.encoding(endpoint.name, endpoint.label):
            if sum(elements(outputs) for outputs, _ in parts) > LONG_ELEMENTS:
                return await asyncio.to_thread(_predictions_in_pieces, *answered)
            return _predictions(*answered)

    async def models(self, call: Call) -> Reply:
        """The served models."""
        found = await asyncio.to_thread(documents.summaries, self.catalogue)
        return as_json({"models": [model for model in found if call.caller.sees(model["name"])]})

    async def model(self, call: Call) -> Reply:
        """One model in full."""
        return as_json(await asyncio.to_thread(documents.described, self.catalogue, call.names["name"], call.caller))

    async def report(self, call: Call) -> Reply:
        """The HTML report of a version."""
        page = await asyncio.to_thread(documents.report, self.catalogue, call.names["name"])
        return Reply(200, page, "text/html; charset=utf-8", REPORT_SAFETY)

    async def audit(self, call: Call) -> Reply:
        """Who changed what: the rows after `since`, the oldest first, or the newest ones."""
        return as_json({"deeds": await asyncio.to_thread(log.page, self.door.keyring, call.query)})

    async def signin_page(self, call: Call) -> Reply:
        """The page on which a person shows a key, or leaves again."""
        return signin.page(self.door, call)

    async def signin(self, call: Call) -> Reply:
        """Take a key, and give a cookie for it."""
        return await signin.enter(self.door, call)

    async def signout(self, call: Call) -> Reply:
        """End the session, and take the cookie back."""
        return await signin.leave(self.door, call)

    async def metrics(self, call: Call) -> Reply:
        """The figures for Prometheus, over all processes of the service."""
        gauges.write(self.signals.figures, self.plane, self.first)
        text = await asyncio.to_thread(self.signals.figures.text, gauges.MEANINGS)
        return Reply(200, text.encode(), "text/plain; version=0.0.4; charset=utf-8")

    async def status(self, call: Call) -> Reply:
        """How well the service does against what was stated."""
        return as_json({"ready": self.state.takes, **await asyncio.to_thread(self.signals.status)})

    async def openapi(self, call: Call) -> Reply:
        """The OpenAPI document, with the models that are served now, for whoever may look at them."""
        if LOOK is not None and not call.caller.may(LOOK):
            return as_json(openapi.document([]))
        versions = await asyncio.to_thread(self.catalogue.published, DOCUMENTED)
        return as_json(openapi.document([version for version in versions if call.caller.sees(version.name)]))

    async def docs(self, call: Call) -> Reply:
        """The page that shows the OpenAPI document, and its parts."""
        file, kind = DOCS_FILES[call.path]
        body = (DOCS / file).read_bytes().replace(b"[[with_key]]", b"yes" if call.caller.key_id else b"")
        return Reply(200, body, f"{kind}; charset=utf-8", SAFETY)

    async def _begin(self, call: Call, arrived: float | None = None) -> tuple[Ask, Endpoint, bytes]:
        """What is asked, the version that answers, and the body, if requests are taken.

        arrived: when it came, if the body may say until when it wants an answer.
        """
        reference, caller = reference_of(call.names["name"], call.names.get("version")), call.caller
        ask = Ask(reference, caller.terms, call.header, caller)
        body = None
        if arrived is not None and self.plane.must_load(ask):
            body = await self._body(call)
            said = wire.wishes_of(body, call.header("inference-header-content-length"))
            ask = replace(ask, terms=said.terms(ask.terms, arrived))
        endpoint = await self.plane.begin(ask)
        call.which = (endpoint.name, str(endpoint.number))
        return ask, endpoint, await self._body(call) if body is None else body

    async def _body(self, call: Call) -> bytes:
        """The body as it was before it was packed, within what the caller may send."""
        came = await call.body()
        if not call.packing:
            return came
        short = at_once("body", came, call.packing, call.body_limit)
        if short is not None:
            return short
        long = await self.rooms[call.caller.tenant].take("body", came, call.packing, call.body_limit)
        call.held_bytes = len(long)
        return long

    async def _endpoint(self, call: Call) -> Endpoint:
        """The version that the path names."""
        reference = reference_of(call.names["name"], call.names.get("version"))
        endpoint = await self.plane.endpoint(reference, call.caller)
        call.which = (endpoint.name, str(endpoint.number))
        return endpoint


def _predictions(parts: Sequence[tuple[Outputs, int]], endpoint: Endpoint, count: int) -> Reply:
    """The answer to so many rows, which were run in these calls."""
    predictions = rows.to_json(joined(parts, endpoint.signature), endpoint.signature)
    return as_json({"model": endpoint.name, "version": endpoint.number, "predictions": predictions})


def _predictions_in_pieces(parts: Sequence[tuple[Outputs, int]], endpoint: Endpoint, count: int) -> Reply:
    """The same, written some rows at a time."""
    head = orjson.dumps({"model": endpoint.name, "version": endpoint.number, "predictions": []})
    texts = rows.to_texts(joined(parts, endpoint.signature), endpoint.signature, count)
    return Reply(200, b"".join((head[:-2], *texts, b"]}")))
