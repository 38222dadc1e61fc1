"""THE RECIPE: look at the data, search, make the winner anew, measure it, account for it, publish. Read this first.

`build` is a generator: it yields findings, trials and notes as they come, and the report last. To cancel, stop
iterating; what was done stays in the ledger, and the same call goes on from there.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import msgspec

from modelmill.checking import check
from modelmill.errors import GoalError, MissingExtra, WorkError
from modelmill.finding import Finding
from modelmill.report import Report
from modelmill.spec import Budget, Goal, Spec, as_table, as_toml, read
from modelmill.trial import Progress, Trial
from modelmill.version import LIVE, Version

if TYPE_CHECKING:
    from modelmill.dataset import Dataset
    from modelmill.execute.local import Pool
    from modelmill.model import Body
    from modelmill.recipe.look import Look
    from modelmill.recipe.make import Made
    from modelmill.registry.registry import Registry
    from modelmill.search.ledger.ledger import Ledger
    from modelmill.store.home import Home

FINAL_SHARE = 0.3
"""The part of a budget in seconds that is kept for making and measuring the winner."""

MEASURE_S = 4.0
"""What measuring, reporting and publishing take of it."""

BEST = "the best so far"
"""The last note of a trial that has just become the best."""

Step = Finding | Trial | Progress | Report


@dataclass(frozen=True, eq=False)
class Options:
    """What a run does beside its spec: rows and a body that are given as live objects, what to do with the result."""

    promote: bool = False
    fresh: bool = False
    finish: bool = False
    """Search no further: make and publish the best of an unfinished run."""
    key: str = ""
    """What the run must turn out to be, where one is gone on with: the data may have changed since it was begun."""
    data: Dataset | None = None
    body: Body | None = None


def build(spec: Spec | Mapping[str, Any], home: Home, options: Options = Options()) -> Iterator[Step]:
    """Search, make, measure and publish the model that a spec asks for.

    Raises UsageError before any work, DataError for data no model can be made of, GoalError where nothing keeps the
    limits when the budget ends.
    """
    from modelmill.execute.preload import context
    from modelmill.recipe.bases import named
    from modelmill.recipe.folds import Plan
    from modelmill.recipe.look import located
    from modelmill.recipe.place import PRELOAD, TRAINED, key_of, pool, run_folder
    from modelmill.registry.reference import check_name
    from modelmill.registry.registry import Registry

    started = time.monotonic()
    need()
    spec = located(spec if isinstance(spec, Spec) else read(spec))
    if not spec.base:
        check(spec, options.body.kind if options.body else None)
    Plan.of(spec.search)
    registry = Registry(home.database, home.blobs)
    spec = named(spec, registry)
    called = spec.base.partition("@")[0] or str(spec.data.get("name") or "model")
    spec = msgspec.structs.replace(spec, name=spec.name or called)
    check_name(spec.name)
    context(PRELOAD)
    seen = looked(spec, registry, options)
    if options.key not in ("", key_of(seen)):
        raise changed(options.key)
    yield from seen.findings
    folder = run_folder(seen, home)
    (folder / "spec.toml").write_text(as_toml(seen.job.spec), "utf-8")
    with closing(pool(seen, home)) as workers:
        ledger, trials = yield from searched(seen, workers, home, options, started)
        try:
            if seen.job.base:
                yield from grown_up(seen, workers, home, trials, options, started)
            else:
                made = yield from finished(seen, workers, home, trials, started)
                yield from published(seen, made, trials, home, options, started)
        except GoalError:
            ledger.close("finished")
            raise
    ledger.close("finished")
    shutil.rmtree(folder / TRAINED, ignore_errors=True)


def looked(spec: Spec, registry: Registry, options: Options) -> Look:
    """What the run is about: rows and what is to be made of them, or a version that is to be compressed."""
    from modelmill.recipe import look, parent
    from modelmill.recipe.bases import bases, familiar, others

    if spec.base:
        return parent.look(spec, registry, options.data)
    seen = look.look(spec, options.body, options.data, bases(spec, registry), others(spec, registry))
    known = familiar(seen.job.spec, registry, seen.job.splits.digest)
    return replace(seen, findings=(*seen.findings, *known))


def changed(key: str) -> WorkError:
    """What to say where a run cannot be gone on with, since its data are no longer those that it was begun with."""
    said = "the data, or the settings that this modelmill fills in, are not those that it was begun with"
    return WorkError(f"run {key.removeprefix('sha256:')[:12]}", said, "Build anew: trials of other data do not count.")


def need() -> None:
    """Refuse to begin without the libraries that building needs; serving needs none of them."""
    for library in ("torch", "sklearn", "optuna", "onnx"):
        if find_spec(library) is None:
            raise MissingExtra.of("build", library, "mill")


def searched(
    seen: Look, workers: Pool, home: Home, options: Options, started: float
) -> Generator[Step, None, tuple[Ledger, list[Trial]]]:
    """Search; yields trials and returns them all, with the ledger that they are in."""
    from modelmill.recipe.make import tolerance
    from modelmill.recipe.place import key_of, stopwatch
    from modelmill.recipe.studies import judged, study
    from modelmill.search.ledger.ledger import Ledger
    from modelmill.search.pareto import best
    from modelmill.search.search import search

    spec = seen.job.spec
    budget = Budget.parse(spec.goal.budget)
    ledger, resumed = Ledger.open(
        home.database, key_of(seen), as_table(spec), data=seen.job.splits.digest, seed=spec.seed, fresh=options.fresh
    )
    if resumed:
        yield Progress(0, 0, note="An unfinished run of this spec on these data goes on; --fresh would start anew.")
    if options.finish:
        return ledger, ledger.trials()
    watch = stopwatch(seen, home, options.fresh)
    left = budget
    if budget.seconds is not None:
        used = time.monotonic() - started
        left = Budget(seconds=max(1e-3, budget.seconds * (1 - FINAL_SHARE) - used))
    found = study(seen, left, FINAL_SHARE * (budget.seconds or 0.0))
    trials: dict[int, Trial] = {}
    champion: Trial | None = None
    for trial in search(found, workers, lambda result: judged(seen, watch, result), home.blobs.put, ledger):
        trials[trial.number] = trial
        known = list(trials.values())
        leader = best(known, seen.goal, tolerance(known, seen.goal)) if trial.state == "done" else champion
        if trial == leader != champion:
            yield msgspec.structs.replace(trial, notes=(*trial.notes, BEST))
        else:
            yield trial
        champion = leader
    return ledger, sorted(trials.values(), key=lambda trial: trial.number)


def finished(
    seen: Look, workers: Pool, home: Home, trials: Sequence[Trial], started: float
) -> Generator[Step, None, Made]:
    """Make the winner anew on all rows it may see and measure it; the next best follows where a limit breaks.

    Raises GoalError where no trial keeps the limits, with the nearest and by how much it misses.
    """
    from modelmill.recipe.make import MOST, following, remade
    from modelmill.recipe.place import stopwatch

    spec = seen.job.spec
    watch = stopwatch(seen, home)
    tried: list[tuple[Trial, Mapping[str, float]]] = []
    while len(tried) < MOST and (trial := following(trials, spec.goal, tried)) is not None:
        yield Progress(0, 0, note=f"Making #{trial.number} anew on training and validation rows, and measuring it")
        made = remade(seen.job, workers, home.blobs, trial, deadline(seen, started), watch)
        if made.keeps:
            return made
        tried.append((trial, made.costs))
    raise missed(trials, spec.goal)


def deadline(seen: Look, started: float) -> float | None:
    """When the winner has to be made, on the monotonic clock; None where the budget is one in trials."""
    budget = Budget.parse(seen.job.spec.goal.budget).seconds
    return None if budget is None else started + budget - MEASURE_S


def missed(trials: Sequence[Trial], goal: Goal) -> GoalError:
    """What to say where nothing keeps the limits: the nearest candidate, and by how much it misses."""
    from modelmill.search.pareto import nearest

    found = nearest(trials, goal)
    if found is None:
        return GoalError("goal", "no candidate was finished within the budget", "Give more time.")
    trial, over = found
    if not over:
        message = (
            f"nothing keeps the limits; #{trial.number} did in the search, but not made anew and measured at length"
        )
        return GoalError(
            "goal.limit", message, "Loosen them a little, give more time, or measure on a quieter machine."
        )
    words = ", ".join(f"{name} by {value:.4g} (limit {goal.limit[name]:g})" for name, value in over.items())
    return GoalError(
        "goal.limit",
        f"nothing keeps the limits; the nearest, #{trial.number}, misses {words}",
        "Loosen them, or give more time.",
    )


def grown_up(
    seen: Look, workers: Pool, home: Home, trials: Sequence[Trial], options: Options, started: float
) -> Iterator[Step]:
    """Publish the best child of a version, or say that nothing is better than the version itself; the report last."""
    from modelmill.recipe.account import stays
    from modelmill.recipe.child import beside, chosen, twin
    from modelmill.recipe.make import remade
    from modelmill.recipe.place import stopwatch
    from modelmill.registry.registry import Registry

    job, watch = seen.job, stopwatch(seen, home)

    def make(trial: Trial) -> Made:
        if job.base and twin(job.base):
            return remade(job, workers, home.blobs, trial, deadline(seen, started), watch)
        return beside(job, trial, home.blobs.get(trial.artifact))

    found = yield from chosen(seen, home.blobs, trials, make, missed(trials, seen.goal))
    if not found.stays:
        yield from published(seen, found.made, trials, home, options, started, found.left)
        return
    registry = Registry(home.database, home.blobs)
    yield written(seen, home, stays(seen, registry, found.made, trials, time.monotonic() - started, found.left))


def published(
    seen: Look,
    made: Made,
    trials: Sequence[Trial],
    home: Home,
    options: Options,
    started: float,
    left: Mapping[int, str] = {},
) -> Iterator[Step]:
    """Account for the run and publish the version with its report; yields the report last."""
    from modelmill.evaluate.page import page
    from modelmill.monitor.reference import FILE as REFERENCE
    from modelmill.recipe.account import decide, report, signature, sketch
    from modelmill.registry.registry import Registry

    registry = Registry(home.database, home.blobs)
    decision = decide(registry, seen, made, options.promote)
    found = report(seen, made, trials, time.monotonic() - started, decision.parent, left)
    found.details["live_why"] = decision.words

    def numbered(number: int, live: bool) -> Report:
        return msgspec.structs.replace(found, version=number, live=live)

    if known := made_before(registry, found):
        found.details["known"] = True
        if options.promote:
            registry.promote(known.name, known.number)
        yield written(seen, home, numbered(known.number, options.promote or LIVE in known.aliases))
        return
    version = registry.publish(
        found.name,
        {
            "model.onnx": made.artifact,
            **made.files,
            "spec.toml": as_toml(seen.job.spec).encode(),
            REFERENCE: sketch(seen, made),
            "report.html": lambda number, live: page(numbered(number, live)).encode(),
        },
        signature(seen, made),
        report_json=found,
        lineage=found.lineage,
        promote=decision.live,
        notes=decision.words,
    )
    registry.sweep()
    yield written(seen, home, numbered(version.number, decision.live))


def made_before(registry: Registry, report: Report) -> Version | None:
    """The child of the same parent by the same recipe that has the same bytes; None where there is none."""
    if "base" not in report.details or report.name not in registry.names():
        return None
    same = (report.lineage.model, report.lineage.spec, report.lineage.parent)
    lineages = ((version, version.lineage) for version in registry.versions(report.name))
    return next((version for version, one in lineages if (one.model, one.spec, one.parent) == same), None)


def written(seen: Look, home: Home, report: Report) -> Report:
    """The report, which now lies in the run's folder too."""
    from modelmill.evaluate.page import page
    from modelmill.recipe.place import run_folder

    folder = run_folder(seen, home)
    report.details["page"] = str(folder / "report.html")
    (folder / "report.html").write_text(page(report), "utf-8")
    (folder / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    return report
