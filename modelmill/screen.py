"""What a person sees while a run goes on and when it ends: live progress on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from modelmill.finding import Finding
from modelmill.lines import bar, figures, sparkline, summary, trial_line
from modelmill.report import Report
from modelmill.spec import Budget, Goal
from modelmill.trial import Progress, Trial

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

EVERY_S = 0.25
"""How often the live line is drawn anew."""

OFTEN = 25
"""After so many trials a line says how the search stands, where no live lines do."""

MOST_RUNNING = 6
"""Trials that run, of which the live lines tell."""

COLORS = {"note": "dim", "warning": "yellow", "fatal": "bold red"}


class Screen:
    """Follows a run on standard error and shows its result; state: the console, the live lines, the trials so far."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False, goal: Goal | None = None) -> None:
        from rich.console import Console

        self.console: Console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._verbose = verbose
        self._live: Live | None = None
        self._trials: dict[int, Trial] = {}
        self._drawn = 0.0
        self._started = time.monotonic()
        self._doing = "looking at the data"
        self._goal = goal
        self._noted: set[str] = set()
        self._errors: dict[str, int] = {}
        self._champion: Trial | None = None
        self._best: list[float] = []
        self._front: list[Trial] = []

    def __enter__(self) -> Screen:
        if self.console.is_terminal and not self.console.quiet:
            from rich.live import Live

            self._live = Live(console=self.console, transient=True, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def follow(self, steps: Iterable[Finding | Trial | Progress | Report]) -> Report:
        """Show every step of a run as it comes; the report that it ends with."""
        report: Report | None = None
        for step in steps:
            if isinstance(step, Report):
                report = step
            elif isinstance(step, Trial):
                self._trial(step)
            elif isinstance(step, Finding):
                self.finding(step)
            else:
                self._progress(step)
            self._draw()
        assert report is not None, "a run ends with a report or an error"
        self.__exit__(None, None, None)
        return report

    def offers_best(self) -> bool:
        """After Ctrl-C: say what is kept, and, on a terminal, ask whether to publish the best so far."""
        self.__exit__(None, None, None)
        done = [trial for trial in self._trials.values() if trial.state == "done"]
        self.console.print(
            f"\n[bold]Interrupted.[/] What was measured is kept ({len(done)} trials); the same command goes on."
        )
        best = next((trial for trial in reversed(done) if trial.notes[-1:] == ("the best so far",)), None)
        if best is None:
            return False
        self.console.print(f"The best so far: {trial_line(best)}")
        if not (sys.stdin.isatty() and self.console.is_terminal):
            return False
        return self.console.input("Publish it now? [y/N] ").strip().lower() in ("y", "yes")

    def finding(self, finding: Finding) -> None:
        """Show what a check noticed."""
        from rich.markup import escape

        if finding.severity == "note" and not self._verbose:
            return
        mark = {"note": "·", "warning": "!", "fatal": "✗"}[finding.severity]
        said = escape(f"{mark} {finding.where}: {finding.message}")
        hint = f". [dim]{escape(finding.hint)}[/]" if finding.hint else ""
        self.console.print(f"[{COLORS[finding.severity]}]{said}[/]{hint}")

    def _progress(self, step: Progress) -> None:
        if step.note:
            self._doing = step.note
            self.console.print(f"[bold]{step.note}[/]")

    def _trial(self, trial: Trial) -> None:
        from rich.markup import escape

        self._trials[trial.number] = trial
        self._doing = "searching"
        if trial.state == "running":
            for note in trial.notes:
                if note not in self._noted and not note.startswith("trained as"):
                    self.console.print(f"[dim]· #{trial.number}: {escape(note)}[/]")
            self._noted.update(trial.notes)
            return
        if trial.state == "failed":
            earlier = self._errors.setdefault(trial.error, trial.number)
            trial = trial if earlier == trial.number else replace(trial, error=f"as #{earlier} did")
        better = "the best so far" in trial.notes[-1:]
        if better:
            self._champion = trial
        self._learn(trial)
        if better or self._verbose or self._live is None:
            self.console.print(trial_line(trial, better=better))
        if self._live is None and self._ended() % OFTEN == 0:
            best = f" · the best is #{self._champion.number}" if self._champion else ""
            self.console.print(f"[dim]{self._standing()}{best}[/]")

    def _learn(self, trial: Trial) -> None:
        """Keep the front, and the quality of the best at every trial that ended."""
        from modelmill.search.pareto import front

        if self._goal and self._goal.objectives:
            self._front = front([*self._front, trial], self._goal)
        if self._champion is not None and self._champion.metrics:
            self._best.append(next(iter(self._champion.metrics.values())))

    def _ended(self) -> int:
        return sum(trial.state != "running" for trial in self._trials.values())

    def _draw(self) -> None:
        if self._live is None or time.monotonic() - self._drawn < EVERY_S:
            return
        from rich.text import Text

        self._drawn = time.monotonic()
        lines = [Text.from_markup(line, overflow="ellipsis") for line in self._status()]
        whole = Text("\n", no_wrap=True, overflow="ellipsis").join(lines)
        self._live.update(whole, refresh=True)

    def _status(self) -> list[str]:
        """The live lines: what is done and how far it is, the best so far, how it came about, and what runs."""
        from rich.markup import escape

        going = [trial for trial in self._trials.values() if trial.state == "running"]
        lines = [f"[cyan]{escape(self._doing)}[/]  {self._far()}"]
        if self._trials:
            lines.append(f"  {self._standing()}")
        if self._champion is not None:
            settings = escape(summary(self._champion.settings))
            figured = "  ".join(figures(self._champion))
            lines.append(f"  best #{self._champion.number}  {figured}  [dim]{settings}[/]")
            lines.append(f"  [green]{sparkline(self._best)}[/] [dim]the best so far[/]")
        for trial in going[:MOST_RUNNING]:
            lines.append(f"  [dim]#{trial.number}{_last(trial)}  {escape(summary(trial.settings))}[/]")
        lines += [f"  [dim]and {len(going) - MOST_RUNNING} more[/]"] * (len(going) > MOST_RUNNING)
        return lines

    def _standing(self) -> str:
        """How the trials stand, in words."""
        states = [trial.state for trial in self._trials.values()]
        counts = [(states.count("done"), "done")]
        counts += [(states.count(state), state) for state in ("stopped", "refused", "failed") if state in states]
        counts += [(len(self._front), "on the front")] * bool(self._front)
        return " · ".join(f"{count} {state}" for count, state in counts)

    def _far(self) -> str:
        """How much of the budget is used, and about how long it lasts."""
        seconds = time.monotonic() - self._started
        if self._goal is None:
            return f"{self._ended()} trials ended  [dim]{seconds:.0f} s[/]"
        budget = Budget.parse(self._goal.budget)
        if budget.trials:
            counted = sum(trial.state not in ("running", "refused") for trial in self._trials.values())
            rest = max(budget.trials - counted, 0)
            left = f" · about {rest * seconds / counted:.0f} s left" if counted and rest else ""
            return f"{bar(counted / budget.trials)} {counted} of {budget.trials} trials{left}  [dim]{seconds:.0f} s[/]"
        whole = budget.seconds or 1.0
        return f"{bar(seconds / whole)} {seconds:.0f} of {whole:.0f} s"

    def report(self, report: Report) -> None:
        """The tables that a run ends with: what was tried, what won, what it costs, which limits it keeps."""
        from modelmill.tables import console, tables

        page = console()
        for item in tables(report):
            page.print(item)
        if path := report.details.get("page"):
            page.print(f"The report: {path}", soft_wrap=True, markup=False)  # a path that is broken opens nothing

    def card(self, card: Mapping[str, Any], findings: Sequence[Finding]) -> None:
        """A data card and what the checks noticed."""
        from modelmill.tables import card_tables, console

        page = console()
        for item in card_tables(card):
            page.print(item)
        self._verbose = True
        for finding in findings:
            self.finding(finding)
        sys.stderr.flush()


def _last(trial: Trial) -> str:
    """What was last heard of a trial that runs."""
    if not trial.curve:
        return ""
    point = trial.curve[-1]
    fold = f" fold {point.folds + 1}" if point.folds else ""
    values = " ".join(f"{name} {value:.3f}" for name, value in list(point.values.items())[-2:])
    return f"{fold} step {point.step} {values}"
