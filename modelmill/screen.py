"""What a person sees while a run goes on and when it ends: live progress on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from modelmill.finding import Finding
from modelmill.report import Report
from modelmill.tables import summary, trial_line
from modelmill.trial import Progress, Trial

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

EVERY_S = 0.25
"""How often the live line is drawn anew."""

COLORS = {"note": "dim", "warning": "yellow", "fatal": "bold red"}


class Screen:
    """Follows a run on standard error and shows its result; state: the console, the live line, the trials so far."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        from rich.console import Console

        self.console: Console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._verbose = verbose
        self._live: Live | None = None
        self._trials: dict[int, Trial] = {}
        self._drawn = 0.0
        self._started = time.monotonic()
        self._doing = "looking at the data"

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
        self._trials[trial.number] = trial
        self._doing = "searching"
        if trial.state == "running":
            return
        better = "the best so far" in trial.notes[-1:]
        if better or self._verbose or self._live is None:
            self.console.print(trial_line(trial, better=better))

    def _draw(self) -> None:
        if self._live is None or time.monotonic() - self._drawn < EVERY_S:
            return
        self._drawn = time.monotonic()
        self._live.update(self._status(), refresh=True)

    def _status(self) -> str:
        ended = [trial for trial in self._trials.values() if trial.state != "running"]
        going = [trial for trial in self._trials.values() if trial.state == "running"]
        seconds = time.monotonic() - self._started
        lines = [f"[cyan]{self._doing}[/]  {len(ended)} trials ended  [dim]{seconds:.0f} s[/]"]
        lines += [f"  [dim]#{trial.number} {summary(trial.settings)} {_last(trial)}[/]" for trial in going]
        return "\n".join(lines)

    def report(self, report: Report) -> None:
        """The tables that a run ends with: what was tried, what won, what it costs, which limits it keeps."""
        from modelmill.tables import console, tables

        page = console()
        for item in tables(report):
            page.print(item)

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
    if not trial.curve:
        return ""
    point = trial.curve[-1]
    return f"step {point.step} " + " ".join(f"{name} {value:.3f}" for name, value in list(point.values.items())[-2:])
