"""THE RECIPE: look at the data, search, make the winner anew, measure it, account for it, publish. Read this first.

`build` is a generator: it yields findings, trials and notes as they come, and the report last. To cancel, stop
iterating; what was done stays in the ledger, and the same call goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from modelmill.errors import GoalError
from modelmill.finding import Finding
from modelmill.report import Report
from modelmill.spec import Budget, Spec, as_toml, check, read, space
from modelmill.trial import Progress, Trial

if TYPE_CHECKING:
    from modelmill.dataset import Dataset
    from modelmill.model import Body
    from modelmill.recipe.look import Look
    from modelmill.recipe.make import Made
    from modelmill.store.home import Home

FINAL_SHARE = 0.3
"""The part of a budget in seconds that is kept for making and measuring the winner."""

Step = Finding | Trial | Progress | Report


@dataclass(frozen=True, eq=False)
class Options:
    """What a run does beside its spec: rows and a body that are given as live objects, what to do with the result."""

    promote: bool = False
    fresh: bool = False
    data: Dataset | None = None
    body: Body | None = None


def build(spec: Spec | Mapping[str, Any], home: Home, options: Options = Options()) -> Iterator[Step]:
    """Search, make, measure and publish the model that a spec asks for.

    Raises UsageError before any work, DataError for data no model can be made of, GoalError where nothing keeps the
    limits when the budget ends.
    """
    from modelmill.recipe.look import look

    started = time.monotonic()
    spec = spec if isinstance(spec, Spec) else read(spec)
    check(spec)
    seen = look(spec, options.body, options.data)
    yield from seen.findings
    (run_folder(seen, home) / "spec.toml").write_text(as_toml(seen.job.spec), "utf-8")
    with closing(pool(seen)) as workers:
        trials = yield from searched(seen, workers, home, options, started)
        made = yield from finished(seen, workers, home, trials, started)
    yield from published(seen, made, trials, home, options, started)
