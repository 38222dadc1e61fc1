"""What the section on compression shows: every step with what it changed, whether it was kept, and where that holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from modelmill.evaluate.words import figure, words
from modelmill.trial import Outcome

Row = dict[str, Any]

INSISTED = "taken all the same: it was insisted on, or a limit needs it"
"""What is said of a step that breaks the promise and is kept."""


def steps(details: Mapping[str, Any]) -> list[Row]:
    """Every step of the recipe, those that were dropped among them."""
    return [row(one) for one in msgspec.convert(details.get("steps") or (), tuple[Outcome, ...])]


def row(outcome: Outcome) -> Row:
    """A step in words: its figures before and after, and the verdict."""
    given = ", ".join(f"{name} {said(value)}" for name, value in outcome.settings.items())
    before, after = outcome.size_bytes or (None, None)
    return {
        "step": outcome.step,
        "settings": given,
        "size": "" if before is None or after is None else f"{figure(before / 1000)} → {figure(after / 1000)}",
        "quality": " → ".join(figure(value) for value in outcome.quality or ()),
        "time": times(outcome.latency_ratio),
        "verdict": "kept" if outcome.kept else "dropped",
        "why": outcome.why or (INSISTED if outcome.insisted and breaks(outcome) else ""),
        "reused": outcome.reused,
    }


def breaks(outcome: Outcome) -> bool:
    """Whether a step that is kept makes the file larger, or a row slower."""
    before, after = outcome.size_bytes or (0, 0)
    return after > before or (outcome.latency_ratio is not None and outcome.latency_ratio[1] > 1)


def said(value: Any) -> str:
    """A setting as a person would write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return figure(value) if isinstance(value, int | float) else str(value)


def times(ratio: tuple[float, float, float] | None) -> str:
    """How many times as long a row takes, with the interval.

    >>> times((0.5, 0.45, 0.56))
    '0.50× (0.45 – 0.56)'
    """
    return "" if ratio is None else f"{ratio[0]:.2f}× ({ratio[1]:.2f} – {ratio[2]:.2f})"


def beside(details: Mapping[str, Any]) -> list[str]:
    """How a child stands beside its parent, and how much earlier runs had done, in sentences."""
    if not details.get("base"):
        return []
    base = details["base"]
    found = []
    if details.get("stays"):
        found.append(f"Nothing was smaller or faster than {base} and within the allowed loss: it stays.")
    elif None not in (ratio := details.get("latency_ratio") or [None]):
        found.append(f"A row takes {times(tuple(ratio))} the time that {base} takes, measured in turns with it.")
    if details.get("agreement"):
        found.append(f"There is no truth in these rows: every metric tells how far answers agree with those of {base}.")
    reused, taken = details.get("reused") or (0, 0)
    if reused:
        found.append(f"Of {taken} steps {reused} were finished by earlier trials or runs, and not run again.")
    return found


def places(details: Mapping[str, Any], metric: str) -> str:
    """On which machines the figures hold, and what quality is where sums of bytes are cut."""
    found = details.get("machines")
    if not found:
        return ""
    here = " ".join(found["instructions"]) or "no vector instructions that we know"
    begun = f"Times hold for processors like this one ({here}, {'with' if found['exact'] else 'without'} VNNI)."
    if found.get("unknown"):
        return f"{begun} Whether integers saturate elsewhere could not be told: {found['unknown']}"
    if found.get("untold"):
        begun += (
            f" {found['untold']} of {found['bytes']} operations on bytes are of a kind that is not simulated: without "
            "VNNI their sums may saturate, and answers be others."
        )
        if not found["saturating"]:
            return begun
    if not found["bytes"]:
        return f"{begun} Nothing is computed in bytes, so that answers are the same everywhere."
    if not found["saturating"]:
        return f"{begun} No sum of bytes can saturate: answers are the same with VNNI and without."
    return (
        f"{begun} {found['saturating']} of {found['bytes']} operations on bytes may saturate without VNNI: on "
        f"{found['rows']} validation rows the {words(metric)} is {figure(found['whole'])} with VNNI, and "
        f"{figure(found['cut'])} without."
    )
