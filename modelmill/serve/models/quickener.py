"""Forms at work: a large model answers at once from one, and goes over to full speed while it does."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import monotonic, sleep

from modelmill.errors import MillError, ModelError
from modelmill.runtime.session import Session
from modelmill.serve.engine import width
from modelmill.serve.engine.pace import Pace
from modelmill.serve.models.endpoint import FILE, UNKNOWN, Endpoint, Record, example, load, of, timed
from modelmill.serve.models.forms import Form, Forms
from modelmill.serve.models.residents import GROWTH, LEAST_BYTES, MAPPED, Key, Residents
from modelmill.serve.models.shelf import Shelf
from modelmill.version import Version

GONE_S = 5.0
"""How long a session that was replaced is waited for."""


class Quickener:
    """Opens versions from their forms, and brings them to full speed; it has a thread for that, and one for forms.

    form_bytes: smaller models have no form, unless their runs are long. cores: how many the runs may use. on_loop:
    changes a lane, which is done where requests are run.
    """

    def __init__(
        self,
        shelf: Shelf,
        record: Record,
        residents: Residents,
        forms: Forms | None,
        form_bytes: int,
        cores: int,
        on_loop: Callable[[Callable[[], None]], None],
    ) -> None:
        self.shelf = shelf
        self.record = record
        self.residents = residents
        self.forms = forms
        self.form_bytes = form_bytes
        self.cores = cores
        self.on_loop = on_loop
        self.quickening = ThreadPoolExecutor(1, thread_name_prefix="modelmill-quicken")
        self.forming = ThreadPoolExecutor(1, thread_name_prefix="modelmill-form")
        self.closed = False
        """Whether nothing more is begun."""

    def close(self) -> None:
        """Wait for what was begun."""
        self.closed = True
        if self.forms is not None:
            self.forms.close()
        for pool in (self.quickening, self.forming):
            pool.shutdown(wait=True, cancel_futures=True)

    def form(self, version: Version) -> Form | None:
        """The form of a version, where it is there."""
        return self.forms.find(version.files[FILE]) if self.forms is not None else None

    def _is_worth_a_form(self, key: Key, version: Version) -> bool:
        """Whether its file is large, or its runs so long that they may want all cores: others load in milliseconds."""
        if version.sizes[FILE] >= self.form_bytes:
            return True
        endpoint = self.residents.held.get(key)
        return endpoint is not None and width.LEAST_MS <= endpoint.lane.pace.of(1) < math.inf

    def opened(self, version: Version, form: Form | None) -> Endpoint:
        """An endpoint that answers: where there is a form, at once, and not yet at full speed."""
        if form is not None:
            try:
                endpoint = of(version, Session(form.graph, lean=True), UNKNOWN, self.record)
                endpoint.warming = True
                return endpoint
            except ModelError:  # it went away this moment, or we may not open more files
                pass
        return load(version, self.shelf.file(version, FILE), self.record)

    def twin(self, endpoint: Endpoint) -> weakref.ref[Session] | None:
        """A spare session of a version, at the speed of the one that answers; None where it cannot be had now.

        It is gone once room is wanted for what is asked for, or it is left.
        """
        version = endpoint.version
        form = self.form(version)
        key, size = _twin_of(version), version.sizes[FILE]
        taken = int(LEAST_BYTES + (GROWTH if form is None else MAPPED) * size)
        with self.residents.lock:
            if not self.residents.reserve_free(key, taken):
                return None
        try:
            with self.residents.passing(size):
                if form is None:
                    session = Session(self.shelf.file(version, FILE))
                else:
                    session = _made(form, form.threads(self.cores) or 1)
                session.run(example(version.signature))  # what the first run needs, a session keeps for ever
        except BaseException as error:
            with self.residents.lock:
                self.residents.release(key)
            if not isinstance(error, MillError):
                raise
            return None
        with self.residents.lock:
            self.residents.spare(key, session, taken)
        endpoint.twin = weakref.ref(session)
        return endpoint.twin

    def leave_twin(self, version: Version, twin: weakref.ref[Session]) -> None:
        """Let go of a version's spare session, if it is there."""
        with self.residents.lock:
            self.residents.leave(_twin_of(version), twin())

    def follow(self, key: Key, version: Version, form: Form | None) -> None:
        """Do, beside what is answered, what is left for a version that is in memory now: full speed, or its form."""
        if form is not None:
            self.quickening.submit(self._quicken, key, form)
        elif (
            self.forms is not None
            and self._is_worth_a_form(key, version)
            and self.forms.may_be_made(version.files[FILE])
        ):
            self.forming.submit(self._make_form, key)

    def _make_form(self, key: Key) -> None:
        """Make the form of a version that was loaded without one, and go over to it: its weights are then mapped."""
        endpoint = self.residents.held.get(key)
        if endpoint is None or self.closed or self.forms is None:
            return
        version = endpoint.version
        del endpoint
        try:
            form = self.forms.make(version.files[FILE], version.sizes[FILE], example(version.signature))
        except MillError:
            return
        if form is not None:
            self._quicken(key, form)

    def _quicken(self, key: Key, form: Form) -> None:
        """Go over to the session of full speed, warm and timed; who runs on the one before ends with that."""
        endpoint = self.residents.held.get(key)
        if endpoint is None or self.closed:
            return
        try:
            with self.residents.passing(endpoint.version.sizes[FILE]):
                self._leave(self._go_over(endpoint, form))
        except ModelError:
            endpoint.warming = False
            return
        with self.residents.lock:
            self.residents.resize(key, int(LEAST_BYTES + MAPPED * endpoint.version.sizes[FILE]))
            self.residents.settle()
            self.residents.trim()

    def _go_over(self, endpoint: Endpoint, form: Form) -> list[weakref.ref[object]]:
        """Run on the session of full speed from now on; the sessions that it replaces. Raises ModelError."""
        before = weakref.ref[object](endpoint.lane.session)
        threads = form.threads(self.cores)
        session = _made(form, threads or 1)
        pace = timed(session, endpoint.signature)
        self._swap(endpoint, session, pace)
        if threads:
            return [before]
        # Known to this node from now on, so that no later start is disturbed by measuring it.
        widened = self._widen(endpoint, session, pace, form)
        return [before, weakref.ref(session)] if widened else [before]

    def _leave(self, sessions: list[weakref.ref[object]]) -> None:
        """Wait until replaced sessions are gone, with their memory; not for ever, since a run may be on one."""
        end = monotonic() + GONE_S
        while any(session() is not None for session in sessions) and not self.closed and monotonic() < end:
            sleep(0.01)

    def _widen(self, endpoint: Endpoint, session: Session, pace: Pace, form: Form) -> bool:
        """Measure whether a run is to have all cores, write it down, and go over to that if so."""
        columns = example(endpoint.signature)
        chosen = width.chosen(session, partial(_made, form), columns, pace.of(1), self.cores)
        form.keep_threads(self.cores, 1 if chosen is session else self.cores)
        if chosen is session:
            return False
        self._swap(endpoint, chosen, timed(chosen, endpoint.signature))
        return True

    def _swap(self, endpoint: Endpoint, session: Session, pace: Pace) -> None:
        """Run on another session from now on."""

        def swap() -> None:
            endpoint.lane.pace = pace
            endpoint.lane.session = session
            endpoint.warming = False

        self.on_loop(swap)


def _twin_of(version: Version) -> Key:
    """The key of a version's spare session, which no load has."""
    return version.name, -version.number


def _made(form: Form, threads: int) -> Session:
    """The session of full speed, with so many threads a run."""
    return Session(form.graph, threads, made=True)
