"""Runs of the mill, for people: lists them, shows one, compares two, and goes on with one that did not finish."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelmill.errors import WorkError
from modelmill.search.ledger.runs import Run, Summary, find, runs
from modelmill.search.pareto import value
from modelmill.spec import read
from modelmill.store.home import Home
from modelmill.trial import Trial

if TYPE_CHECKING:
    from modelmill.mill import Step

STATES = ("done", "stopped", "failed", "refused", "running")


def resume(home: Home, called: str) -> Iterator[Step]:
    """Go on with an unfinished run, by the spec that it was begun with; yields what `mill.build` yields.

    Raises WorkError for a run that is finished or running, or whose data are no longer what they were.
    """
    from modelmill.mill import Options, build

    run = find(home.database, called)
    where = f"run {run.folder}"
    if run.study.state == "running":
        raise WorkError(where, "it is running at this moment", f"See `modelmill search show {run.study.id}`.")
    if run.study.state == "finished":
        raise WorkError(where, "it is finished", f"`modelmill search show {run.study.id}` says what it found.")
    later = [other.study.id for other in runs(home.database) if other.key == run.key and other.study.id > run.study.id]
    if later:
        raise WorkError(where, f"run {later[0]} of the same spec was begun after it", f"Resume run {later[0]}.")
    spec = run.study.spec
    if not spec.get("base") and ("method" not in spec.get("data", {}) or "arch" not in spec):
        hint = "Make the same call again: it goes on where the run was."
        raise WorkError(where, "it was begun from Python with data or a model that live there", hint)
    yield from build(read(run.study.spec), home, Options(key=run.key))


def print_runs(found: Sequence[Run]) -> None:
    """Print every run with its state and how many trials it has."""
    from modelmill.listing import when
    from modelmill.tables import console, table_of

    if not found:
        print("No runs yet. Try: modelmill build digits --budget 20s")
        return
    table = table_of("", ["run", "id", "begun (UTC)", "state", "trials", "seconds", "goal"])
    table.columns[0].no_wrap = True
    for run in found:
        study = run.study
        table.add_row(
            run.folder,
            str(study.id),
            when(study.created_ms),
            study.state,
            ", ".join(f"{study.counts[state]} {state}" for state in STATES if study.counts.get(state)),
            f"{study.seconds:.0f}",
            ", ".join(f"{way} {name}" for name, way in study.goal.objectives),
        )
    console().print(table)


def print_summary(found: Summary) -> None:
    """Print a run: how it stands, its best trial and its front, who suggested what, and what the search itself cost."""
    from modelmill.listing import when
    from modelmill.tables import console, table_of

    page = console()
    study = found.run.study
    counts = ", ".join(f"{count} {state}" for state, count in study.counts.items()) or "no trials yet"
    page.print(f"[bold]{found.run.folder}[/] (run {study.id})  {study.state}, begun {when(study.created_ms)} UTC")
    said = [f"{way} {name}" for name, way in study.goal.objectives]
    said += [f"limit {name} {limit:g}" for name, limit in study.goal.limit.items()]
    page.print(f"goal: {', '.join([*said, f'budget {study.goal.budget}', f'seed {study.seed}'])}")
    page.print(f"{counts}, in {study.seconds:.0f} s")
    if found.best is None:
        page.print("No trial keeps the limits so far.")
    else:
        page.print(_trials("The best, and the front", [found.best, *_others(found)], study.goal))
    table = table_of("Who suggested", ["", *STATES])
    for name, states in found.members.items():
        table.add_row(name, *(str(states.get(state, 0) or "") for state in STATES))
    page.print(table)
    costs = found.costs
    page.print(
        f"The search itself took {costs['pick_s']:.2f} s of processor for suggesting, at most "
        f"{costs['slowest_pick_s']:.2f} s for one; the trials took {costs['trials_s']:.0f} s."
    )
    for sentence in found.chains:
        page.print(f"{sentence[:1].upper()}{sentence[1:]}.")
    page.print(_trials("The last trials", found.last, study.goal))
    if found.run.unfinished:
        page.print(f"It goes on with: modelmill search resume {study.id}")


def _others(found: Summary) -> list[Trial]:
    return [trial for trial in found.front if found.best is None or trial.number != found.best.number]


def _trials(title: str, trials: Sequence[Trial], goal: Any) -> Any:
    from modelmill.lines import summary
    from modelmill.tables import cost, table_of

    asked = dict.fromkeys([*(name for name, _ in goal.objectives), *goal.limit])
    named = [*asked, *({"size_bytes"} if "size_kb" not in asked else ())]
    table = table_of(title, ["trial", "state", *named, "settings"])
    table.columns[-1].justify = "left"
    for trial in trials:
        figures = [value(trial, name) for name in named]
        shown = [cost(name, None if figure != figure else figure) for name, figure in zip(named, figures, strict=True)]
        said = summary(trial.settings, 7) if trial.state != "failed" else trial.error
        table.add_row(f"#{trial.number}", trial.state, *shown, said)
    return table


def print_comparison(pair: Sequence[Summary], found: Mapping[str, Mapping[str, Sequence[Any]]]) -> None:
    """Print two runs side by side, and which settings of their specs differ."""
    from modelmill.tables import console, table_of

    heads = [f"{one.run.folder} ({one.run.study.id})" for one in pair]
    for title, rows in found.items():
        table = table_of(title if rows else f"{title}: no difference", ["", *heads])
        for name, values in rows.items():
            table.add_row(name, *("–" if item is None else _shown(item) for item in values))
        console().print(table)


def _shown(item: Any) -> str:
    return f"{item:.6g}" if isinstance(item, float) else str(item)
