"""What is served: every model with a live version is known, and loaded when it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

from modelmill import pipeline
from modelmill.errors import (
    Draining,
    MillError,
    NotServed,
    Overloaded,
    RequestError,
    Unavailable,
    UnknownModel,
    UsageError,
    close_names,
)
from modelmill.runtime.memory import resident_bytes
from modelmill.serve.engine.engine import cores
from modelmill.serve.models.endpoint import FILE, Endpoint, Record, joined
from modelmill.serve.models.forms import Forms
from modelmill.serve.models.known import Known
from modelmill.serve.models.loader import Loader
from modelmill.serve.models.quickener import Quickener
from modelmill.serve.models.residents import (
    GROWTH,
    LEAST_BYTES,
    PIPELINE_BYTES,
    Budget,
    Key,
    Residents,
)
from modelmill.serve.models.shelf import Shelf
from modelmill.serve.models.withheld import Withheld
from modelmill.version import LIVE, Version

ROOM_S = 5.0
"""How long a load waits for room where all that is in memory is in use."""

FEW = 200
"""Names among which one is looked for that was meant: among more it takes too long."""
AGAIN_S = 2.0
"""How long a version that could not be loaded is not tried again."""


@dataclass(frozen=True)
class Keeping:
    """What is held in memory, and when it is loaded."""

    budget: Budget = field(default_factory=Budget)
    eager: int = 16
    """So many models, or fewer, are loaded before the service is ready; of more, none: each when it is asked for."""
    threads: int = 2
    """Loads at a time."""
    forms: Path | None = None
    """Where this node keeps the forms in which models load in milliseconds; None for none."""
    cores: int = 0
    """How many cores the runs may use; 0 is all."""
    form_bytes: int = 1_000_000
    """Smaller models have no form: they load in milliseconds anyhow."""


DEFAULT = Keeping()


class Catalogue:
    """The endpoints by name; it follows the registry, and holds what is loaded.

    `served` and `present` are for the loop, and wait for nothing; all else may wait for the registry, and is called
    from threads.
    """

    def __init__(
        self,
        shelf: Shelf,
        references: Sequence[str],
        record: Record,
        keeping: Keeping = DEFAULT,
        folder: Path | None = None,
    ) -> None:
        """folder: what the processes of one service share; None for one that is alone."""
        self.shelf = shelf
        self.record = record
        self.keeping = keeping
        self.known = Known(shelf, references)
        self.residents = Residents(keeping.budget)
        self.loader: Loader[Endpoint] = Loader(keeping.threads)
        forms = None if keeping.forms is None else Forms(keeping.forms, shelf.blobs)
        self.quickener = Quickener(
            shelf, record, self.residents, forms, keeping.form_bytes, keeping.cores or cores(), self._on_loop
        )
        self.served = self.residents.named
        """What NAME alone reaches and is in memory."""
        self.withheld = Withheld(folder)
        self.problems: dict[str, str] = {}
        self.failures: dict[Key, tuple[float, MillError]] = {}
        self.gone: set[str] = set()
        """Steps of pipelines in memory whose versions were deleted."""
        self.lock = self.residents.lock
        self.loop: asyncio.AbstractEventLoop | None = None
        """Where requests are run; None where nobody serves."""

    @property
    def loaded(self) -> int:
        """How many versions are in memory."""
        return len(self.residents.held)

    def names(self) -> list[str]:
        """Every model that is served, in memory or not."""
        return [name for name in self.known.names() if name not in self.withheld]

    def endpoints(self) -> list[Endpoint]:
        """What NAME alone reaches and is in memory, by name."""
        return [endpoint for _, endpoint in sorted(self.served.items())]

    def states(self) -> list[tuple[str, int, str, str]]:
        """Every model: its name, its version, READY or UNAVAILABLE, and why."""
        return [(name, number, *self._state(name)) for name, number in sorted(self.known.numbers.items())]

    def _state(self, name: str) -> tuple[str, str]:
        if name in self.withheld:
            return "UNAVAILABLE", "unloaded"
        endpoint = self.served.get(name)
        if endpoint is not None:
            lack = self._lack(endpoint)
            return ("UNAVAILABLE" if lack else "READY"), lack
        return "UNAVAILABLE", self.problems.get(name, "not in memory: it is loaded when it is asked for")

    def _lack(self, endpoint: Endpoint) -> str:
        """Why a pipeline does not answer: a step of it cannot be had; '' where none is known to be amiss."""
        for step in endpoint.steps:
            name, _, number = step.model.rpartition("@")
            _, failure = self.failures.get((name, int(number)), (0.0, None))
            if name in self.withheld:
                return f"{step.model} is unloaded, and the pipeline needs it"
            if step.model in self.gone:
                return f"{step.model} is gone, and the pipeline needs it"
            if failure is not None:
                return str(failure)
        return ""

    def start(self) -> None:
        """Know what is to be served, and load it where it is little.

        After `stop`, which may come meanwhile from any thread, no further model is. Raises UnknownModel for a wanted
        name that the registry does not have, and what keeps a wanted model from being loaded.
        """
        self.known.start()
        self.residents.before_bytes = resident_bytes()
        if len(self.known.numbers) > self.keeping.eager:
            return
        keys = list(self.known.numbers.items())
        try:
            futures = [self._submit(key, eager=True) for key in keys]
        except Draining:
            return
        for (name, _), future in zip(keys, futures, strict=True):
            try:
                future.result()
            except (Overloaded, CancelledError):
                continue  # it comes when it is asked for, or never: the service is ending
            except MillError as error:
                if self.known.wanted:
                    raise
                self.problems[name] = str(error)

    def stop(self) -> None:
        """Begin to load nothing more, and wait for nothing."""
        self.quickener.closed = True
        self.loader.stop()

    def close(self) -> None:
        """Load nothing more."""
        self.stop()
        self.loader.close()
        self.quickener.close()

    def refresh(self) -> bool:
        """Follow the registry if it changed; a version that cannot be loaded leaves the one before in place."""
        for name in self.withheld.follow():
            self._let_go(name)
        changed = self.known.follow()
        for name in changed:
            self.problems.pop(name, None)
            self._follow(name)
        if changed:
            self.gone = {step.model for at in self.endpoints() for step in at.steps if self._is_gone(step.model)}
        return bool(changed)

    def _is_gone(self, reference: str) -> bool:
        try:
            self.shelf.find(reference)
        except UnknownModel:
            return True
        return False

    def _follow(self, name: str) -> None:
        number = self.known.numbers.get(name)
        present = self.served.get(name)
        if number is not None and present is not None and present.number != number and name not in self.withheld:
            try:
                self._get((name, number))
            except MillError as error:
                self.problems[name] = str(error)
                self.known.numbers[name] = number = present.number
        with self.lock:
            if number is None:
                self.served.pop(name, None)
            for key in [key for key in self.residents.held if key[0] == name and key[1] != number]:
                self.residents.drop(key)
            self.residents.trim()

    def present(self, reference: str) -> Endpoint | None:
        """The endpoint of a reference that is in memory; None where it has to be loaded, or looked up."""
        endpoint = self.served.get(reference)
        if endpoint is None and "@" in reference:
            key = self.known.key(reference)
            endpoint = None if key is None else self.residents.held.get(key)
        if endpoint is not None:
            endpoint.used = monotonic()
        return endpoint

    def is_served(self, reference: str) -> bool:
        """Whether there is a model of that name, and it is not unloaded."""
        name = reference.partition("@")[0]
        return name in self.known.numbers and name not in self.withheld

    async def endpoint(self, reference: str) -> Endpoint:
        """The endpoint of NAME, NAME@3 or NAME@alias, loaded if need be.

        Raises NotServed; Unavailable where it cannot be loaded; Overloaded where it cannot be now.
        """
        found = self.present(reference)
        if found is not None:
            return found
        key = self._key(reference)
        if key is None:
            key = await asyncio.to_thread(self._look_up, reference)
        return await asyncio.shield(asyncio.wrap_future(self._submit(key)))

    async def pinned(self, reference: str) -> Endpoint:
        """The endpoint of NAME@NUMBER, a step of a pipeline, which need not be served by itself; loaded if need be.

        Raises Unavailable where it was unloaded, or cannot be loaded; Overloaded where it cannot be now.
        """
        name, _, number = reference.rpartition("@")
        if name in self.withheld:
            raise Unavailable(reference, "is unloaded, and the pipeline needs it", f"Load {name}.")
        key = (name, int(number))
        found = self.residents.held.get(key)
        if found is not None:
            found.used = monotonic()
            return found
        try:
            return await asyncio.shield(asyncio.wrap_future(self._submit(key)))
        except NotServed as error:
            raise Unavailable(reference, f"is gone, and the pipeline needs it: {error.message}", "") from None

    def held(self, reference: str) -> Endpoint:
        """As `pinned`, for threads. Raises MillError."""
        name, _, number = reference.rpartition("@")
        key = (name, int(number))
        return self.residents.held.get(key) or self._submit(key).result()

    def find(self, reference: str, wait_s: float = ROOM_S) -> Endpoint:
        """As `endpoint`, for threads. wait_s: how long to wait for room where all that is in memory is in use."""
        found = self.present(reference)
        return found if found is not None else self._get(self._key(reference) or self._look_up(reference), wait_s)

    def keep(self, names: Collection[str]) -> None:
        """Let go of nothing that these names reach, from now on, and of what was kept before as of all else."""
        self.residents.kept = frozenset(names)

    def follows_live(self, name: str) -> bool:
        """Whether a name stands for the live version, and not for one that the service was started with."""
        return self.known.wanted.get(name, LIVE) == LIVE

    def _get(self, key: Key, wait_s: float = ROOM_S) -> Endpoint:
        return self._submit(key, wait_s=wait_s).result()

    def _submit(self, key: Key, eager: bool = False, wait_s: float = ROOM_S) -> Future[Endpoint]:
        return self.loader.submit(key, lambda: self._hold(key, eager, wait_s))

    def _key(self, reference: str) -> Key | None:
        """The version that a reference stands for; None where the registry has to be asked. Raises NotServed."""
        if not self.is_served(reference):
            raise self._unknown(reference)
        return self.known.key(reference)

    def _look_up(self, reference: str) -> Key:
        """The version of an alias that was not there a moment ago."""
        try:
            version = self.shelf.find(reference)
        except (UnknownModel, UsageError) as error:
            raise NotServed("model", error.message, error.hint) from None
        return version.name, version.number

    def _unknown(self, reference: str) -> NotServed:
        name = reference.partition("@")[0][:200]
        if name in self.withheld:
            return NotServed("model", f"{name!r} is unloaded", f"Load it: POST /v2/repository/models/{name}/load.")
        names = self.names()
        close = close_names(name, names) if len(names) <= FEW else ()
        hint = f"Did you mean {close[0]}?" if close else f"Served: {', '.join(names[:12]) or 'none'}."
        return NotServed("model", f"{reference[:80]!r} is not served", hint)

    def _hold(self, key: Key, eager: bool, wait_s: float) -> Endpoint:
        """The endpoint of a version, in memory from now on; on a thread of the loader."""
        held = self.residents.held.get(key)
        if held is not None:
            with self.lock:
                self._name(key, held)  # it may have come before NAME stood for it
            return held
        tried, failure = self.failures.get(key, (0.0, None))
        if failure is not None and monotonic() - tried < AGAIN_S:
            raise failure
        try:
            endpoint = self._load(key, eager, wait_s)
        except RequestError:
            raise
        except MillError as error:
            failure = _why(key, error)
            self.failures[key] = (monotonic(), failure)
            if self.known.numbers.get(key[0]) == key[1]:
                self.problems.setdefault(key[0], str(failure))
            raise failure from error
        self.failures.pop(key, None)
        return endpoint

    def _load(self, key: Key, eager: bool, wait_s: float) -> Endpoint:
        try:
            version = self.shelf.find(f"{key[0]}@{key[1]}")
        except UnknownModel as error:
            raise NotServed("model", error.message, error.hint) from None
        whole = pipeline.FILE in version.files
        size = PIPELINE_BYTES if whole else int(LEAST_BYTES + GROWTH * version.sizes[FILE])
        form = None if whole else self.quickener.form(version)
        self._reserve(key, size, eager, wait_s)
        try:
            with self.residents.passing(0 if whole else version.sizes[FILE]):
                endpoint = self._joined(version) if whole else self.quickener.opened(version, form)
        except BaseException:
            with self.lock:
                self.residents.release(key)
            raise
        with self.lock:
            self.residents.add(key, endpoint, size)
            if key[0] in self.withheld:  # since it was begun
                self.residents.drop(key)
                raise self._unknown(key[0])
            self._name(key, endpoint)
            self.residents.settle()
        if not whole:
            self.quickener.follow(key, version, form)
        return endpoint

    def _joined(self, version: Version) -> Endpoint:
        """The endpoint of a pipeline; its steps come when they are asked for."""
        steps = pipeline.read(self.shelf.file(version, pipeline.FILE)).steps
        self.gone.update(step.model for step in steps if self._is_gone(step.model))
        return joined(version, steps, self.record)

    def _on_loop(self, change: Callable[[], None]) -> None:
        """Change a lane where requests are run, as everything of a lane is."""
        if self.loop is None or self.loop.is_closed():
            change()
        else:
            self.loop.call_soon_threadsafe(change)

    def _reserve(self, key: Key, size: int, eager: bool, wait_s: float) -> None:
        """Make room; for what is in use we wait a little. Raises Unavailable, Overloaded."""
        deadline = monotonic() + (0.0 if eager else wait_s)
        while True:
            with self.lock:
                if not self.residents.is_crowded(size):
                    if eager and self.residents.used() + size > self.residents.most:
                        message = "is not loaded before it is asked for: the budget is full"
                        raise Overloaded(f"{key[0]}@{key[1]}", message, "")
                    try:
                        self.residents.reserve(key, size)
                        break
                    except Overloaded:
                        if monotonic() >= deadline:
                            raise
            sleep(0.005)
        self.residents.trim()

    def _name(self, key: Key, endpoint: Endpoint) -> None:
        """Let NAME reach a version, where it stands for it."""
        if self.known.numbers.get(key[0]) == key[1] and key[0] not in self.withheld:
            self.served[key[0]] = endpoint
            self.problems.pop(key[0], None)

    def load(self, name: str) -> None:
        """Serve a model's version as it is now, also if it was unloaded; it is in memory then. Raises NotServed."""
        self.refresh()
        number = self.known.numbers.get(name)
        if number is None:
            raise self._unknown(name)
        withheld = self.withheld.discard(name)
        try:
            self._get((name, number))
        except MillError:
            if withheld:
                self.withheld.add(name)
            raise

    def unload(self, name: str) -> None:
        """Serve a model no longer, until it is loaded. Raises NotServed."""
        if name not in self.known.numbers:
            raise self._unknown(name)
        self.withheld.add(name)
        self._let_go(name)

    def parts(self, name: str) -> list[str]:
        """The served models that a pipeline is made of; none for another model. Raises NotServed."""
        return sorted({step.rpartition("@")[0] for step in self.steps(name)}.intersection(self.known.numbers))

    def steps(self, name: str) -> list[str]:
        """The versions that a pipeline runs, each as NAME@NUMBER; none for another model.

        Raises NotServed, Unavailable where its file cannot be read.
        """
        number = self.known.numbers.get(name)
        if number is None:
            raise self._unknown(name)
        try:
            version = self.shelf.find(f"{name}@{number}")
            if pipeline.FILE not in version.files:
                return []
            return [step.model for step in pipeline.read(self.shelf.file(version, pipeline.FILE)).steps]
        except UnknownModel as error:
            raise NotServed("model", error.message, error.hint) from None
        except MillError as error:
            raise _why((name, number), error) from error

    def _let_go(self, name: str) -> None:
        """Have nothing of a model in memory."""
        with self.lock:
            self.served.pop(name, None)
            for key in [key for key in self.residents.held if key[0] == name]:
                self.residents.drop(key)
            self.residents.trim()

    def version(self, reference: str) -> Version:
        """The version that a reference stands for, in memory or not. Raises NotServed."""
        found = self.present(reference)
        if found is not None:
            return found.version
        name, number = self._key(reference) or self._look_up(reference)
        try:
            return self.shelf.find(f"{name}@{number}")
        except UnknownModel as error:
            raise NotServed("model", error.message, error.hint) from None

    def published(self, most: int) -> list[Version]:
        """The versions that NAME alone reaches, of so many models, in memory or not."""
        found: list[Version] = []
        for name in self.names()[:most]:
            try:
                found.append(self.version(name))
            except NotServed:
                continue
        return found

    def numbers(self, name: str) -> list[int]:
        """The numbers of all versions of a served model."""
        return [version.number for version in self.shelf.versions(name)]


def _why(key: Key, error: MillError) -> Unavailable:
    """A failure to load as the request sees it: the model is there, and cannot be had now; where files lie is ours."""
    words = error.message.removeprefix("cannot be loaded: ")
    return Unavailable(f"{key[0]}@{key[1]}", f"cannot be loaded: {words}", error.hint)
