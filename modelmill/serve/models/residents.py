"""What is in memory and how many bytes it takes; where room is needed, what was used longest ago goes first."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from modelmill.errors import Overloaded, Unavailable
from modelmill.runtime.memory import give_back, machine_bytes, resident_bytes
from modelmill.serve.models.endpoint import Endpoint

Key = tuple[str, int]
"""A model's name and a version's number."""

SHARE = 0.5
"""The part of the machine's memory that models may take unless told otherwise."""

GROWTH = 2.2
"""A session takes so many times the bytes of its file: the weights, and once more as the kernels want them."""

MAPPED = 1.3
"""So many times, where the weights are mapped from a form."""

PIPELINE_BYTES = 20_000
"""What a pipeline takes beside its steps."""

LEAST_BYTES = 600_000
"""What the smallest session takes."""

OWN_BYTES = 32_000_000
"""What the service itself may come to take beside its models: bodies, answers, the allocator's own."""

WORTH_BYTES = 16_000_000
"""So much must have left before the allocator is asked to give its free pages back: that costs milliseconds."""


@dataclass(frozen=True)
class Budget:
    """How many bytes models may take, in all and by owner."""

    most_bytes: int = 0
    """0 is half of the memory that this process may have."""
    owners: Callable[[str], Mapping[str, int]] = lambda name: {}
    """Whose a model of that name is, and how many bytes all models of each may take; nobody's is bounded by all."""

    @property
    def bytes(self) -> int:
        """The bytes in all."""
        return self.most_bytes or int(SHARE * machine_bytes())


class Residents:
    """Who is in memory. It is changed under its lock; requests look into `held` without it."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.most = budget.bytes
        self.held: dict[Key, Endpoint] = {}
        self.named: dict[str, Endpoint] = {}
        """What NAME alone reaches, as far as it is in memory."""
        self.sizes: dict[Key, int] = {}
        self.beside: list[tuple[weakref.ref[object], Key, int]] = []
        """Let go, and still alive because a run holds it: its bytes count until it is gone."""
        self.spares: dict[Key, tuple[object, int]] = {}
        """Sessions that nobody needs, and their bytes: the first to go where room is wanted."""
        self.reserved: dict[Key, int] = {}
        """Being loaded."""
        self.kept: frozenset[str] = frozenset()
        """Names of which what they reach is not let go of."""
        self.passing_bytes = 0
        """What loads and changes of session take for a moment, and nobody is to go for."""
        self.freed = 0
        self.before_bytes = 0
        """What the process took before it held any model; 0 where nobody looked."""
        self.lock = threading.RLock()

    def used(self, owner: str | None = None) -> int:
        """The bytes of what is in memory, is on its way there, or has not left: of all models, or of an owner's."""
        self.beside = [entry for entry in self.beside if entry[0]() is not None]
        beside = [(key, size) for _, key, size in self.beside]
        spares = [(key, size) for key, (_, size) in self.spares.items()]
        entries = (*self.sizes.items(), *self.reserved.items(), *beside, *spares)
        return sum(size for key, size in entries if self._is_of(key, owner))

    def _is_of(self, key: Key, owner: str | None) -> bool:
        """Whether a version is an owner's; all are nobody's."""
        return owner is None or owner in self.budget.owners(key[0])

    def is_crowded(self, size: int) -> bool:
        """Whether a load has to wait for one that is under way: what both take for a moment goes beyond the budget."""
        coming = sum(self.reserved.values())
        beside = (coming + size) / GROWTH - OWN_BYTES
        return coming > 0 and beside > 0 and self.used() + size + beside > self.most

    def reserve(self, key: Key, size: int) -> None:
        """Make room for a version that will be loaded.

        Raises Unavailable where it is larger than a budget, Overloaded where all that fills one is in use.
        """
        larger = "Start the service with a larger --memory-budget."
        for owner, most in self.budget.owners(key[0]).items():
            hint = f"Give the tenant a higher tier: modelmill keys tenant {owner} --tier NAME"
            self._make_room(key, size, most, owner, f"models of tenant {owner}", hint)
        self._make_room(key, size, self.most, None, "models", larger)
        self.reserved[key] = size

    def reserve_free(self, key: Key, size: int) -> bool:
        """Whether there is room for a spare session, with nobody let go of; it is reserved then."""
        bounds = [(None, self.most), *self.budget.owners(key[0]).items()]
        if any(self.used(owner) + size > most for owner, most in bounds):
            return False
        self.reserved[key] = size
        return True

    def spare(self, key: Key, session: object, size: int) -> None:
        """Hold a session, for which room was reserved, until it is let go of or the room is wanted."""
        self.release(key)
        self._spare_no_more(key)
        self.spares[key] = session, size

    def leave(self, key: Key, session: object) -> None:
        """Let go of a spare session; a run that is on it still holds it."""
        if self.spares.get(key, (None, 0))[0] is session:
            self._spare_no_more(key)

    def _spare_no_more(self, key: Key) -> None:
        session, size = self.spares.pop(key, (None, 0))
        if session is not None:
            self.beside.append((weakref.ref(session), key, size))
            self.freed += size

    def _make_room(self, key: Key, size: int, most: int, owner: str | None, which: str, hint: str) -> None:
        if size > most:
            message = f"takes some {size / 1e6:.0f} MB in memory, and {which} may take {most / 1e6:.0f} MB"
            raise Unavailable(f"{key[0]}@{key[1]}", message, hint)
        while self.used(owner) + size > most:
            spare = next((each for each in self.spares if self._is_of(each, owner)), None)
            if spare is not None:
                self._spare_no_more(spare)
                continue
            victim = self._oldest(owner)
            if victim is None:
                message = f"no memory for it: the {which} that fill the budget are in use"
                raise Overloaded(f"{key[0]}@{key[1]}", message, "Try again in a second.")
            self.drop(victim)

    def release(self, key: Key) -> None:
        """Take back a reservation: the version could not be loaded."""
        self.reserved.pop(key, None)

    def add(self, key: Key, endpoint: Endpoint, size: int) -> None:
        """A version is in memory now."""
        self.release(key)
        self.sizes[key] = size
        self.held[key] = endpoint

    def resize(self, key: Key, size: int) -> None:
        """A version takes another number of bytes from now on."""
        if key in self.sizes:
            self.freed += max(0, self.sizes[key] - size)
            self.sizes[key] = size

    def drop(self, key: Key) -> None:
        """Let go of a version; a request that runs on it still holds it, and nothing fails."""
        endpoint = self.held.pop(key, None)
        if endpoint is None:
            return
        if self.named.get(key[0]) is endpoint:
            del self.named[key[0]]
        size = self.sizes.pop(key)
        self.beside.append((weakref.ref(endpoint.lane.session), key, size))
        self.freed += size

    def fit(self, over: int) -> None:
        """Let go of so many bytes, of what is not in use, and of all but the last."""
        while over > 0 and self.spares:
            key, (_, size) = next(iter(self.spares.items()))
            over -= size
            self._spare_no_more(key)
        while over > 0 and len(self.held) > 1:
            victim = self._oldest(None)
            if victim is None:
                break
            over -= self.sizes[victim]
            self.drop(victim)

    @contextlib.contextmanager
    def passing(self, size: int) -> Iterator[None]:
        """While this lasts, a session is made of a file of that size: for a moment that takes as much once more."""
        with self.lock:
            self.passing_bytes += size
        try:
            yield
        finally:
            with self.lock:
                self.passing_bytes -= size

    def settle(self) -> None:
        """What was reckoned may be less than what is taken: see what is, and let go of more if it is too much.

        Free memory that the allocator still has is given back first: nobody takes it.
        """
        if self.before_bytes and self._over() > 0:
            give_back()
            self.fit(self._over())
            self.trim()

    def _over(self) -> int:
        """How many bytes are taken, and stay so, beyond the budget."""
        return resident_bytes() - self.before_bytes - self.most - OWN_BYTES - self.passing_bytes

    def _oldest(self, owner: str | None) -> Key | None:
        """Whom nobody uses or has kept, and whose last use is longest ago."""
        free = [
            (endpoint.used, key)
            for key, endpoint in self.held.items()
            if not endpoint.in_flight and self._is_of(key, owner) and not self._is_kept(key)
        ]
        return min(free)[1] if free else None

    def _is_kept(self, key: Key) -> bool:
        return key[0] in self.kept and self.named.get(key[0]) is self.held[key]

    def trim(self) -> None:
        """Give memory that nobody uses back to the machine, if enough was freed to be worth it."""
        if self.freed >= WORTH_BYTES:
            self.freed = 0
            give_back()
