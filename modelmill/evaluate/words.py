"""Says in words what figures are called and why the runners-up lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, nan
from typing import Any

from modelmill.errors import UnknownName
from modelmill.spec import FLOORS, Goal
from modelmill.trial import Trial

UNITS = {
    "latency_ms": "ms",
    "latency_p95_ms": "ms",
    "latency_p99_ms": "ms",
    "latency_b32_ms": "ms",
    "throughput_rps": "rows/s",
    "size_kb": "kB",
    "stored_kb": "kB",
    "size_bytes": "bytes",
    "stored_bytes": "bytes",
    "memory_mb": "MB",
    "energy_mj": "mJ",
    "macs": "",
    "cpu_seconds": "s / 1000 rows",
}
"""The unit of every cost, as it is printed."""


def why_lost(
    trials: Sequence[Trial], goal: Goal, winner: int, left: Mapping[int, str] = {}, most: int = 500
) -> list[dict[str, Any]]:
    """For every other trial `{"trial", "why"}`: what it lacked against the winner, in a few words.

    left: what is known of a trial beyond its figures, by number.
    """
    won = next((trial for trial in trials if trial.number == winner), None)
    others = [trial for trial in trials if trial.number != winner and trial.state != "running"]
    return [{"trial": trial.number, "why": left.get(trial.number) or _why(trial, won, goal)} for trial in others[:most]]


def _why(trial: Trial, won: Trial | None, goal: Goal) -> str:
    if trial.state == "failed":
        return f"failed: {_line(trial.error) or 'without a word'}"
    if trial.state == "refused":
        return (
            f"refused before training: {trial.error.partition(chr(10))[0] or _last(trial.notes) or 'it could not fit'}"
        )
    if trial.state == "stopped":
        return _stopped(trial)
    missed = [_miss(name, limit, trial) for name, limit in goal.limit.items()]
    if any(missed):
        return "; ".join(filter(None, missed))
    return _compared(trial, won, goal) if won is not None else "did not win"


def _stopped(trial: Trial) -> str:
    """Where and why a trial was stopped, as its last note has it."""
    note = _last(trial.notes) or "stopped early"
    if note.startswith("stopped") or not trial.curve:
        return note
    return f"stopped at step {trial.curve[-1].step}: {note}"


def _line(error: str) -> str:
    return error.strip().partition("\n")[0]


def _last(notes: Sequence[str]) -> str:
    return notes[-1].rstrip(".") if notes else ""


def _miss(name: str, limit: float, trial: Trial) -> str:
    value = {**trial.metrics, **trial.costs}.get(name)
    floor = name in FLOORS or (name in trial.metrics and higher(name))
    if value is None or (value >= limit if floor else value <= limit):
        return ""
    side = "below the floor of" if floor else "over the limit of"
    unit = f" {UNITS[name]}" if UNITS.get(name) else ""
    return f"{words(name)} {figure(value)}{unit} is {side} {figure(limit)}{unit}"


def _compared(trial: Trial, won: Trial, goal: Goal) -> str:
    if len(goal.objectives) > 1:
        return _traded(trial, won, goal)
    for name, direction in goal.objectives or (("", ""),):
        mine, best = ({**one.metrics, **one.costs}.get(name) for one in (trial, won))
        if mine is None or best is None or mine == best:
            continue
        worse = mine < best if direction == "maximize" else mine > best
        gap = abs(mine - best)
        if worse and gap > won.spread:
            return f"{words(name)} {figure(gap)} {'lower' if mine < best else 'higher'}"
        if not worse:
            return _dearer(trial, won, f"{words(name)} {figure(gap)} better, within the noise")
    return _dearer(trial, won, "as good within the noise")


def _traded(trial: Trial, won: Trial, goal: Goal) -> str:
    """With several objectives: what it has better, and what it pays for that."""
    sides: dict[bool, list[str]] = {True: [], False: []}
    for name, direction in goal.objectives:
        mine, best = (_value(one, name) for one in (trial, won))
        if mine != best and isfinite(mine) and isfinite(best):
            said = f"{words(name)} {figure(abs(mine - best))} {'lower' if mine < best else 'higher'}"
            sides[(mine > best) == (direction == "maximize")].append(said)
    better, worse = (" and ".join(sides[side]) for side in (True, False))
    return f"{better}, but {worse}" if better and worse else better or worse or _dearer(trial, won, "as good")


def _value(trial: Trial, name: str) -> float:
    return {"size_kb": trial.costs.get("size_bytes", nan) / 1000, **trial.metrics, **trial.costs}.get(name, nan)


def _dearer(trial: Trial, won: Trial, quality: str) -> str:
    for name, adjective in (("size_kb", "larger"), ("size_bytes", "larger"), ("latency_ms", "slower")):
        mine, best = trial.costs.get(name), won.costs.get(name)
        if mine and best and mine > 1.05 * best:
            return f"{quality}, but {mine / best:.1f} times {adjective}"
    return f"{quality}, and no smaller"


def higher(metric: str) -> bool:
    """Whether more of a metric is better; so it is taken to be where the metric is not known here.

    >>> higher("accuracy"), higher("rmse")
    (True, False)
    """
    from modelmill.metrics.score import better

    try:
        return better(metric) == "higher"
    except UnknownName:
        return True


def words(name: str) -> str:
    """A metric's or cost's name as a person would say it.

    >>> words("size_kb"), words("log_loss"), words("auroc")
    ('size', 'log loss', 'AUROC')
    """
    spoken = {"auroc": "AUROC", "f1": "F1", "r2": "R2", "mae": "MAE", "rmse": "RMSE", "macs": "multiply-adds"}
    spoken |= {"cpu_seconds": "processor time", "latency_p99_ms": "latency p99", "latency_b32_ms": "latency of 32 rows"}
    bare = name.removesuffix("_ms").removesuffix("_kb").removesuffix("_mb").removesuffix("_mj").removesuffix("_rps")
    return spoken.get(name) or bare.removesuffix("_bytes").replace("_", " ")


def figure(value: float) -> str:
    """A number with as many digits as a person reads.

    >>> [figure(v) for v in (0.98765, 0.99971, 12.345, 1234567, 0.000123, 3)]
    ['0.988', '0.99971', '12.3', '1,234,567', '0.00012', '3']
    """
    if not isfinite(value):
        return "not defined"
    size = abs(value)
    if size >= 1000 or float(value).is_integer():
        return f"{value:,.0f}"
    if size >= 0.1:
        digits = 1 if size >= 10 else 2 if size >= 1 else 3 if size < 0.9995 else 5
        return f"{value:.{digits}f}".rstrip("0").rstrip(".")
    return f"{value:.2g}" if size >= 1e-4 else f"{value:.1e}"


def duration(seconds: float) -> str:
    """A length of time as a person says it.

    >>> duration(58.6), duration(754), duration(0.02)
    ('59 s', '12 min 34 s', 'under 0.1 s')
    """
    if seconds < 0.05:
        return "under 0.1 s" if seconds > 0 else "0 s"
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
