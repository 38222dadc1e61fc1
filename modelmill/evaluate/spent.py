"""What the search itself took, and who of its samplers earned what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, nan
from typing import Any

from modelmill.evaluate.charts.progress import Step, gained, progress
from modelmill.evaluate.story import Story, few, figures, keeps_limits, member, tip
from modelmill.evaluate.tried import MOST_MARKS, tint
from modelmill.evaluate.words import duration, figure
from modelmill.trial import Trial

Row = dict[str, Any]


def came_on(told: Story) -> list[str]:
    """The pictures of how the search came on: the best so far, and the hypervolume of the front."""
    shown = few(told, told.trials, MOST_MARKS)
    pictures = []
    if told.metric and any(trial.state != "running" or trial.curve for trial in shown):
        pictures.append(progress([_step(told, trial) for trial in shown], told.metric, told.more(told.metric)))
    if told.volumes:
        pictures.append(gained(told.volumes, told.trials[-1].number))
    return pictures


def _step(told: Story, trial: Trial) -> Step:
    beside = [trial.state if trial.state != "done" else "", f"suggested by {member(told, trial)}"]
    return Step(
        trial.number,
        _reached(told, trial),
        trial.state,
        keeps_limits(told, trial),
        tint(told, trial),
        tip(told, trial, beside),
        trial.number == told.number,
    )


def _reached(told: Story, trial: Trial) -> float | None:
    """The quality of a trial, or what its curve had come to."""
    if told.metric in figures(trial):
        return figures(trial)[told.metric]
    name = f"valid_{told.metric}"
    return next((point.values[name] for point in reversed(trial.curve) if name in point.values), None)


def spent(told: Story) -> list[str]:
    """What the search took, in sentences."""
    if all(trial.state == "running" for trial in told.trials):
        return []
    picking = sum(trial.pick_s for trial in told.trials)
    measuring = sum(trial.measure_s for trial in told.trials)
    training = sum(trial.seconds for trial in told.trials) - measuring
    whole = picking + measuring + training
    if whole <= 0:
        return []
    parts = [("training", training), ("measuring", measuring), ("suggesting what to try", picking)]
    shares = ", ".join(f"{duration(seconds)} of {name} ({_share(seconds, whole)})" for name, seconds in parts)
    each = figure(float(f"{1000 * picking / len(told.trials):.3g}"))
    return [f"All trials together took {shares}.", f"A suggestion took {each} ms of processor time on average."]


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if part >= 0.005 * whole or part == 0 else "under 1 %"


def samplers(told: Story) -> list[Row]:
    """For every sampler, or member of a portfolio: its trials, what they took, and how many moved the search on."""
    groups: dict[str, list[Trial]] = {}
    for trial in told.trials:
        groups.setdefault(member(told, trial), []).append(trial)
    whole = sum(trial.seconds for trial in told.trials) or 1.0
    return [_sampler(told, name, trials, whole) for name, trials in sorted(groups.items(), key=_most)]


def _most(group: tuple[str, Sequence[Trial]]) -> int:
    return -len(group[1])


def _sampler(told: Story, name: str, trials: Sequence[Trial], whole: float) -> Row:
    moved = [trial for trial in trials if trial.number in told.moves]
    seconds = sum(trial.seconds for trial in trials)
    return {
        "name": name,
        "trials": len(trials),
        "ended": sum(trial.state == "done" for trial in trials),
        "pick": f"{1000 * sum(trial.pick_s for trial in trials) / len(trials):.3g} ms",
        "took": duration(seconds),
        "share": _share(seconds, whole),
        "moved": len(moved),
        "last": f"#{moved[-1].number}" if moved else "",
    }


def chains(found: Mapping[str, Any]) -> Row:
    """What the Markov chains of the search did: sentences, and how their states were spread; empty without chains."""
    if not found:
        return {}
    return {
        "words": [f"{said[:1].upper()}{said[1:]}." for said in found["words"]],
        "numbers": [_spread(name, numbers) for name, numbers in found["numbers"].items()],
        "choices": [
            (
                name,
                ", ".join(f"{option} {100 * share:.0f} %" for option, share in options.items()),
                _changes(found, name),
            )
            for name, options in found["frequencies"].items()
        ],
    }


def _spread(name: str, numbers: Mapping[str, Any]) -> Row:
    low, middle, high = (figure(value) for value in numbers["quartiles"])
    size, agreement = (numbers[key] if numbers[key] is not None else nan for key in ("size", "agreement"))
    return {
        "name": name,
        "middle": middle,
        "half": f"{low} to {high}",
        "size": figure(round(size)) if isfinite(size) else "",
        "agreement": f"{agreement:.2f}" if isfinite(agreement) else "",
    }


def _shares(options: Mapping[str, float]) -> str:
    return ", ".join(f"{option} {100 * share:.0f} %" for option, share in options.items())


def _changes(found: Mapping[str, Any], name: str) -> str:
    """How often a choice was left for another, of all the times it could have been."""
    moves = found["transitions"].get(name, {})
    whole = sum(count for options in moves.values() for count in options.values())
    stayed = sum(options.get(option, 0) for option, options in moves.items())
    return f"{whole - stayed} of {whole}"
