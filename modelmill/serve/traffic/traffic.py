"""Which version answers for NAME alone, and what is counted of it: the part of traffic that lives in a server.

Every second each server writes its counts, reads routes and rollouts, and loads the versions that they name. One of the
servers of a home holds the lease, and moves the rollouts.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import msgspec
import numpy as np

from modelmill.contracts import Labels, Router
from modelmill.errors import MillError, Overloaded, RegistryError
from modelmill.runtime.chain import Through
from modelmill.runtime.session import Session, Stop
from modelmill.serve.access.caller import Caller
from modelmill.serve.engine.engine import Engine
from modelmill.serve.engine.pace import Runs
from modelmill.serve.models.endpoint import Endpoint
from modelmill.serve.routers.canary import Canary
from modelmill.serve.routers.sticky import Sticky
from modelmill.serve.traffic import book
from modelmill.serve.traffic.book import Book, Mover, Route, key_of
from modelmill.serve.traffic.counts import Counts, total
from modelmill.serve.traffic.lease import Lease, Seen, claim, see
from modelmill.serve.traffic.meter import Meter
from modelmill.serve.traffic.mirror import Copy, Mirror
from modelmill.serve.traffic.pair import Pair, is_valid
from modelmill.serve.traffic.rollout import Next, Rollout, advance
from modelmill.serve.traffic.twins import Opens, Twins
from modelmill.serve.traffic.verdict import Tolerances, evidence
from modelmill.store.engine import Connection
from modelmill.version import Version

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
Header = Callable[[str], str | None]
"""The value of a header of the request; None without it."""

PATIENCE_S = 5.0
"""How long the driver may be silent before another server takes its place."""

NO_WAIT_S = 0.0
"""How long a turn waits for room in memory: there is another one soon, and much else waits for this one."""

SILENT = Tolerances()


class Versions(Protocol):
    """What is asked of the registry."""

    def versions(self, name: str) -> Sequence[Version]:
        """All versions of a model."""

    def move(self, connection: Connection, name: str, number: int, alias: str = ..., note: str = ...) -> None:
        """Point an alias at a version, within a transaction."""

    def stamp(self) -> Any:
        """A value that differs after any change of the registry."""


class Loads(Protocol):
    """What is asked of the catalogue."""

    @property
    def quickener(self) -> Opens:
        """What opens sessions."""

    def present(self, reference: str) -> Endpoint | None:
        """The endpoint of a reference, if it is loaded."""

    def find(self, reference: str, wait_s: float = ...) -> Endpoint:
        """The endpoint of a reference, loaded if need be; so long it waits for room in memory."""

    def keep(self, names: Collection[str]) -> None:
        """Let go of nothing that these names reach."""

    def follows_live(self, name: str) -> bool:
        """Whether a name stands for the live version."""

    def held(self, reference: str) -> Endpoint:
        """The endpoint of a step of a pipeline, loaded if need be."""


@dataclass(eq=False)
class Watch:
    """What a server does for one model: who answers, who is asked too, and what is counted."""

    name: str
    key: str
    """The key of the counts."""
    router: Router
    labels: Labels
    step: int
    rollout: Rollout | None = None
    candidate: Endpoint | None = None
    """The version that is compared with the live one; None where nothing is."""
    meter: Meter | None = None
    twin: weakref.ref[Session] | None = None
    """What stands in for the live version where the two are compared; once it is gone that does so itself."""

    @property
    def tolerances(self) -> Tolerances:
        """What is tolerated of the candidate."""
        return self.rollout.plan.tolerances if self.rollout is not None else SILENT


class Traffic:
    """Routes and watches of a server; they change every second, and with every request that is counted."""

    def __init__(
        self, pages: Book, shelf: Versions, catalogue: Loads, engine: Engine, patience_s: float = PATIENCE_S
    ) -> None:
        self.book = pages
        self.patience_s = patience_s
        self.shelf = shelf
        self.catalogue = catalogue
        self.random = Random()
        self.mirror = Mirror(engine, self.random)
        self.watches: dict[str, Watch] = {}
        """By NAME; what is not in here is answered by the version of NAME, and nothing is counted."""
        self.me = f"{socket.gethostname()}:{os.getpid()}:{self.random.getrandbits(48):012x}"
        self.meters: dict[tuple[str, int], Meter] = {}
        self.flushed: dict[tuple[str, int], Counts] = {}
        self.seen: Seen | None = None
        self.turned_s: float | None = None
        self.known: tuple[Any, dict[str, Labels]] = (None, {})
        self.twins = Twins(catalogue.quickener)

    @property
    def drives(self) -> bool:
        """Whether this server moved the rollouts when it last looked."""
        return self.seen is not None and self.seen.lease.holder == self.me

    def pick(self, watch: Watch, header: Header | None, caller: Caller) -> str:
        """The reference of the version that answers. Raises NotServed where the request names one that is not there."""
        key = watch.router.key
        said = self._id(key, header, caller)
        if said and key != "request" and watch.meter is not None:
            watch.meter.named()
        number = watch.router(said, watch.labels)
        return watch.name if number == watch.labels["live"] else f"{watch.name}@{number}"

    def among(self, watch: Watch) -> list[str]:
        """The references of those versions between which a draw may decide."""
        others = [watch.labels[label] for label in watch.router.keeps if label in watch.labels]
        return [watch.name, *(f"{watch.name}@{number}" for number in others if number != watch.labels["live"])]

    def answered(
        self, watch: Watch, endpoint: Endpoint, copy: Copy, outputs: Mapping[str, Array] | None, live: Endpoint | None
    ) -> None:
        """Count a request that was answered, or that failed where there are no outputs; ask the candidate too."""
        candidate, meter = watch.candidate, watch.meter
        if candidate is None or meter is None or live is None or live.number != watch.labels["live"]:
            return
        failed = not is_valid(outputs, copy.rows)
        by_candidate = endpoint.number == candidate.number
        if not by_candidate and endpoint.number != live.number:
            return
        wanted = self._is_mirrored(watch)
        taken = wanted and not (live.warming or candidate.warming) and self.mirror.has_time()
        if wanted and not taken:
            meter.dropped()
        meter.served(by_candidate, failed, taken)
        if taken:
            fault = (failed and not by_candidate, failed and by_candidate)
            live.in_flight += 1
            candidate.in_flight += 1

            def done(pair: Pair) -> None:
                live.in_flight -= 1
                candidate.in_flight -= 1
                meter.mirrored(_with(pair, *fault))

            twin = None if watch.twin is None else watch.twin()
            self.mirror.take(copy, twin or self._runs(live), self._runs(candidate), watch.tolerances.near, done)

    def _runs(self, endpoint: Endpoint) -> Runs:
        """What runs a version: its session, or the sessions of a pipeline's steps."""
        return Through(endpoint.steps, self._step) if endpoint.steps else endpoint.lane.session

    def _step(self, model: str, given: Mapping[str, Array], names: tuple[str, ...], stop: Stop | None) -> Arrays:
        return self.catalogue.held(model).lane.session.run(given, names, stop)

    def _is_mirrored(self, watch: Watch) -> bool:
        if watch.rollout is not None:
            return self.random.random() * 100 < watch.rollout.plan.mirror
        return watch.router.mirror(f"{self.random.getrandbits(64):x}", watch.labels) is not None

    def _id(self, key: str, header: Header | None, caller: Caller) -> str:
        """What a router takes for the request's id; a fresh one where a request has none of its own."""
        if key in ("tenant", "key"):
            return caller.tenant if key == "tenant" else caller.key_id
        if key == "request":
            return (header and header("x-request-id")) or f"{self.random.getrandbits(64):x}"
        if header is None:
            return ""
        kind, _, name = key.partition(":")
        if kind == "cookie":
            return cookie(header("cookie") or "", name)
        return header(name.lower()) or ""

    async def turn(self, follow: Callable[[], object] = lambda: None) -> None:
        """Write counts, read what is to be done, and do it; every second. Raises StorageError, and what `follow` does.

        follow: finds out what names stand for, on a thread. That is done after a rollout was seen to be over: a
        candidate that was promoted and taken back in between would be what the name stands for otherwise.
        """
        read = {key: meter.read() for key, meter in self.meters.items()}
        changed = [(key, step, at) for (key, step), at in read.items() if self.flushed.get((key, step)) != at]
        watches = await asyncio.to_thread(self._turn, changed)
        self.flushed.update({(key, step): at for key, step, at in changed})
        await asyncio.to_thread(follow)
        self._apply(watches)

    async def close(self) -> None:
        """Write the last counts, and let another server drive."""
        self.mirror.close()
        read = [(key, step, meter.read()) for (key, step), meter in self.meters.items()]
        await asyncio.to_thread(self._leave, read)

    def _turn(self, changed: Sequence[tuple[str, int, Counts]]) -> list[Watch]:
        latest, routes = self.book.latest(), self.book.routes()
        running = [at for at in latest if at.state == "running"]
        self.catalogue.keep({at.name for at in running})
        if running or changed:
            with self.book.database.writing() as connection:
                book.flush(connection, self.me, changed)
                lease = self._claim(connection) if running else None
                if lease is not None:
                    running = self._clocked(connection, running)
            if lease is not None:
                moved = {at.id: self._drive(at, lease) for at in running}
                latest = [moved.get(at.id, at) for at in latest]
        self.turned_s = time.monotonic() if running else None
        return [*self._watched(latest), *self._routed(routes)]

    def _claim(self, connection: Connection) -> Lease | None:
        """The lease, if it is this server's from now on."""
        now = time.monotonic()
        self.seen = see(self.seen, book.read_lease(connection), now)
        mine = claim(self.seen, self.me, now, self.patience_s)
        if mine is not None:
            book.write_lease(connection, mine)
            self.seen = Seen(mine, now)
        return mine

    def _clocked(self, connection: Connection, running: Iterable[Rollout]) -> list[Rollout]:
        """The rollouts with the time that passed since the last turn; a leap of a frozen server counts for little."""
        passed = 0.0 if self.turned_s is None else min(2.0, time.monotonic() - self.turned_s)
        later = [msgspec.structs.replace(at, seconds=at.seconds + passed) for at in running]
        for at in later:
            connection.execute(
                "UPDATE rollouts SET seconds = :seconds WHERE id = :id AND state = 'running' AND step = :step",
                {"seconds": at.seconds, "id": at.id, "step": at.step},
            )
        return later

    def _drive(self, rollout: Rollout, lease: Lease) -> Rollout:
        """The rollout after a look at everybody's counts; a change is written down, if this server still drives."""
        counted = self.book.counts(key_of(rollout))
        overall = total(counted.values())
        after = advance(rollout, overall, counted.get(rollout.step, Counts()))
        if after.rollout == rollout:
            return rollout
        with self.book.database.writing(durable=True) as connection:
            present = book.read_lease(connection)
            if (present.holder, present.token) != (lease.holder, lease.token):
                return rollout
            return settle(connection, self.shelf, rollout, after, overall)

    def _watched(self, latest: Iterable[Rollout]) -> list[Watch]:
        """A watch for every rollout whose base this server serves.

        Also for one that is done, until the catalogue has followed: nothing goes back to the old version meanwhile. Not
        where the service was told which version it is to serve.
        """
        found = []
        for at in latest:
            follows = at.state in ("running", "done") and self.catalogue.follows_live(at.name)
            live = self._base(at.name) if follows else None
            if live is None or live.number != at.base:
                continue
            known = self._labels(at.name)
            labels = {**known, "live": at.base}
            if at.state == "running":
                watch = Watch(at.name, key_of(at), router_of(at), labels, at.step, at)
                found.append(self._armed(watch, at.reference))
            elif known.get("live") == at.number:
                found.append(Watch(at.name, key_of(at), Canary(candidate=str(at.number), percent=100), labels, at.step))
        return found

    def _routed(self, routes: Iterable[Route]) -> list[Watch]:
        """A watch for every route of a model that this server serves."""
        found = []
        for at in routes:
            live = self._base(at.name)
            if live is None:
                continue
            labels = {**self._labels(at.name), "live": live.number}
            watch = Watch(at.name, at.key, at.router, labels, 0)
            for label in at.router.keeps:
                self._load(watch, label)
            asked = at.router.mirror("", labels)
            found.append(self._armed(watch, f"{at.name}@{asked}") if asked is not None else watch)
        return found

    def _base(self, name: str) -> Endpoint | None:
        """The live version of a model, in memory from now on; None where it is not served here."""
        try:
            return self.catalogue.find(name, NO_WAIT_S)
        except MillError:
            return None

    def _load(self, watch: Watch, label: str) -> None:
        """Have a version of a route loaded before it is asked for; what cannot be is not routed to."""
        number = watch.labels.get(label)
        try:
            if number is not None:
                self.catalogue.find(f"{watch.name}@{number}", NO_WAIT_S)
        except MillError:
            watch.labels = {key: value for key, value in watch.labels.items() if value != number}

    def _armed(self, watch: Watch, reference: str) -> Watch:
        """The watch with its candidate and its meter."""
        watch.meter = self.meters.get((watch.key, watch.step)) or Meter(watch.tolerances, self.random)
        try:
            watch.candidate = self.catalogue.find(reference, NO_WAIT_S)
            watch.meter.crowded = ""
            watch.twin = self.twins.of(watch.key, self.catalogue.present(watch.name))
            return watch
        except Overloaded as error:  # which is not its fault
            watch.meter.crowded = str(error)[:300]
        except MillError as error:
            watch.meter.broken = error.message.removeprefix("cannot be loaded: ")[:300]
        watch.labels = {**watch.labels, reference.partition("@")[2]: watch.labels["live"]}
        return watch

    def _labels(self, name: str) -> Labels:
        """Every number and alias of a model; read anew when the registry has changed."""
        stamp = self.shelf.stamp()
        if self.known[0] != stamp:
            self.known = (stamp, {})
        labels = self.known[1]
        if name not in labels:
            try:
                labels[name] = labels_of(self.shelf.versions(name))
            except RegistryError:
                labels[name] = {}
        return labels[name]

    def _apply(self, watches: Sequence[Watch]) -> None:
        """Let the watches hold from now on; on the loop, in one step."""
        for watch in watches:
            if watch.meter is None:
                continue
            before = self.watches.get(watch.name)
            if before is not None and before.meter is not None and before.key == watch.key:
                watch.meter.follow(before.meter)
            self.meters[watch.key, watch.step] = watch.meter
        self.watches = {watch.name: watch for watch in watches}
        kept = {watch.key for watch in watches}
        self.twins.keep(kept)
        for key in [key for key in self.meters if key[0] not in kept]:
            if self.flushed.get(key) == self.meters[key].read():
                del self.meters[key]

    def _leave(self, read: Sequence[tuple[str, int, Counts]]) -> None:
        if not read and not self.drives:
            return
        with self.book.database.writing() as connection:
            book.flush(connection, self.me, read)
            present = book.read_lease(connection)
            if present.holder == self.me:
                book.write_lease(connection, Lease("", present.token, present.beat))


def settle(connection: Connection, shelf: Mover, before: Rollout, after: Next, overall: Counts) -> Rollout:
    """Write down what a rollout has come to, in one transaction with the move of the alias; the rollout as it then is.

    While it runs its base is live: whoever moves `live` by hand ends it in that same transaction.
    """
    now = book.now_ms()
    came = msgspec.structs.replace(after.rollout, changed_ms=now)
    if not book.write(connection, before, came):
        return book.rollouts(connection, "WHERE id = :id", {"id": before.id})[0]
    if came.state == "done":
        note = before.plan.notes or f"rollout {before.id} was passed"
        shelf.move(connection, before.name, before.number, note=note)
    book.write_step(connection, came, now, evidence(overall, after.findings))
    return came


def router_of(rollout: Rollout) -> Router:
    """What sends the candidate its share at the present step."""
    salt = f"rollout {rollout.id}"
    if rollout.plan.by:
        return Sticky(candidate=str(rollout.number), percent=rollout.share, by=rollout.plan.by, salt=salt)
    return Canary(candidate=str(rollout.number), percent=rollout.share, salt=salt)


def labels_of(versions: Iterable[Version]) -> dict[str, int]:
    """Every number and alias, and the version it stands for."""
    return {label: at.number for at in versions for label in (str(at.number), *at.aliases)}


def cookie(header: str, name: str) -> str:
    """The value of one cookie.

    >>> cookie("a=1; session=x7", "session"), cookie("a=1", "b")
    ('x7', '')
    """
    parts = (part.strip().partition("=") for part in header.split(";"))
    return next((value for key, _, value in parts if key == name), "")


def _with(pair: Pair, live_failed: bool, candidate_failed: bool) -> Pair:
    """A pair in which also the answer that the client saw counts."""
    if not live_failed and not candidate_failed:
        return pair
    return pair._replace(
        live_failed=pair.live_failed or live_failed, candidate_failed=pair.candidate_failed or candidate_failed
    )
