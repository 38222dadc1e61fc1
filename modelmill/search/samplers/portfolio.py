"""Spreads the budget over several samplers."""

from __future__ import annotations

from functools import cache
from typing import Annotated

import numpy as np
from msgspec import Meta, structs

from modelmill.contracts import Pick, Sampler
from modelmill.errors import SpecError
from modelmill.history import History, Suggestion
from modelmill.method import decode
from modelmill.search.credit import shares
from modelmill.search.surrogate.encode import Encoding
from modelmill.search.surrogate.promising import Tried, remote
from modelmill.space import Space


class Portfolio(Sampler):
    """Several samplers, each asked the more often, the more its trials have earned for what they cost.

    All learn from all trials. The first trials are spread over the space. A trial earns where it is the best so far,
    and a little where it comes close; earnings fade, so that a member that is good late is asked late. None is asked
    never: the budget is never far from the best member's. Costs are the work that trials count, not their seconds.

    Auer, Cesa-Bianchi, Freund, Schapire (2002), https://doi.org/10.1137/S0097539701398375
    """

    members: tuple[str, ...] = ("gp", "tpe", "variants")
    """Names of samplers, with their default settings; one that has nothing to pick in a space is left out there."""
    startup: Annotated[int, Meta(ge=1)] = 8
    """Trials spread over the space before the members are asked."""
    least: Annotated[float, Meta(ge=0, le=1)] = 0.3
    """The part of the budget that goes to all members alike, whatever they earn."""
    memory: Annotated[float, Meta(gt=0, le=1)] = 0.95
    """How much of what was earned is left a trial later."""

    def __call__(self, space: Space) -> Pick:
        """Picks as one of the members would. Refuses what a member refuses."""
        if not self.members:
            raise SpecError("search.sampler.members", "none is given", "Name at least one sampler, such as gp or tpe.")
        if "portfolio" in self.members:
            raise SpecError("search.sampler.members", "portfolio cannot be a member of itself", "Leave it out.")
        named = {name: decode("sampler", {"method": name}, "search.sampler.members") for name in self.members}
        for name, sampler in named.items():
            if sampler.gradients:
                said = f"{name} asks every trial how its loss changes, and cannot take turns"
                raise SpecError("search.sampler.members", said, f'Write sampler = {{ method = "{name}" }} instead.')
        members = [name for name, sampler in named.items() if sampler.suits(space)] or list(named)
        picks = [named[name](space) for name in members]
        columns = cache(lambda: Encoding(space))

        def pick(history: History, seed: int) -> Suggestion | None:
            draw = np.random.default_rng(seed)
            if len(history) < self.startup and space.dimensions:
                encoding = columns()
                return Suggestion(encoding.settings(remote(encoding, Tried(encoding, history), draw), draw))
            chances = shares(history, members, self.least, self.memory)
            for i in draw.choice(len(picks), size=len(picks), replace=False, p=chances):
                if found := picks[i](history, seed):
                    told: Suggestion = structs.replace(found, memo={"member": members[i], **found.memo})
                    return told
            return None

        return pick
