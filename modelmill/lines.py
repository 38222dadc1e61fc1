"""What a run says in a line: a trial, its figures, its settings; bars and curves made of characters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelmill.trial import Trial


def trial_line(trial: Trial, *, better: bool = False) -> str:
    """One trial in one line: its number, state, figures and settings."""
    from rich.markup import escape

    mark = (
        "[green]★[/]" if better else {"done": " ", "stopped": "◦", "refused": "–", "failed": "[red]✗[/]"}[trial.state]
    )
    if trial.state in ("failed", "refused"):
        reason = escape(trial.error.partition("\n")[0][:100])
        what = f"[dim]{trial.state}: {reason}[/]"
    elif trial.state == "stopped":
        what = f"[dim]{escape(_stopped(trial))}[/]"
    else:
        what = "  ".join(figures(trial))
    dropped = [outcome.step for outcome in trial.steps if not outcome.kept]
    without = f" [yellow]without {', '.join(dropped)}[/]" if dropped else ""
    return f"{mark} #{trial.number:<3} {what}  [dim]{summary(trial.settings)}[/]{without}"


def _stopped(trial: Trial) -> str:
    """Why a trial was stopped, as its last note says."""
    note = trial.notes[-1] if trial.notes else "early"
    return note if note.startswith("stopped") else f"stopped: {note}"


def sparkline(values: Sequence[float], width: int = 32) -> str:
    """Rising or falling values as a line of blocks; of more than `width` the later ones of equal stretches.

    >>> sparkline([0, 1, 2, 7])
    '▁▂▃█'
    >>> sparkline([3, 3])
    '▁▁'
    """
    blocks = "▁▂▃▄▅▆▇█"
    if len(values) > width:
        values = [values[(i + 1) * len(values) // width - 1] for i in range(width)]
    low, high = min(values, default=0.0), max(values, default=0.0)
    reach = (high - low) or 1.0
    return "".join(blocks[round((value - low) / reach * (len(blocks) - 1))] for value in values)


def bar(share: float, width: int = 24) -> str:
    """A part of a whole as a bar.

    >>> bar(0.5, 4)
    '━━──'
    """
    full = round(min(max(share, 0.0), 1.0) * width)
    return "━" * full + "─" * (width - full)


def figures(trial: Trial) -> list[str]:
    """The figures of a trial that a person looks at first."""
    name, value = next(iter(trial.metrics.items()), ("", float("nan")))
    found = [f"{name} [bold]{value:.4f}[/]"] if name else []
    if "latency_ms" in trial.costs:
        found.append(f"{trial.costs['latency_ms']:.3f} ms")
    if "size_bytes" in trial.costs:
        found.append(f"{trial.costs['size_bytes'] / 1000:.1f} kB")
    return found


def summary(settings: Mapping[str, Any], most: int = 6) -> str:
    """Settings in a few words: the last parts of their names.

    >>> summary({"arch": "mlp", "arch.mlp.width": 32, "compress.quantize.static": True})
    'mlp width=32 +static'
    >>> summary({"arch.operations.1": "conv3"})
    'operations.1=conv3'
    """
    words = []
    for name, value in settings.items():
        *_, before, last = ["", *name.split(".")]
        last = f"{before}.{last}" if last.isdigit() else last
        if value is False or last == "step":
            continue
        if value is True:
            words.append(f"+{last}")
        elif name == last:
            words.append(str(value))
        else:
            words.append(f"{last}={value:.3g}" if isinstance(value, float) else f"{last}={value}")
    return " ".join(words[:most]) + (" …" if len(words) > most else "")
