"""A narrower network of the same architecture, and what it learns from its teacher."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, mse_loss

from modelmill.compress.distill.widening import widen
from modelmill.contracts import Judge, Task
from modelmill.dataset import Dataset
from modelmill.errors import ModelError
from modelmill.method import decode, find, settings
from modelmill.model import Model
from modelmill.network.slicing import channels, narrowed, widths
from modelmill.runtime.features import features
from modelmill.train.rows import head, rows, unfold, unit
from modelmill.train.training import Objective


def narrower(model: Model, ratio: float, train: Dataset, seed: int) -> Model:
    """The model with an untrained body in place of its own: the same arch, with `width` times `ratio`.

    Where channels were cut, it is the layers as they are now that become `ratio` times as wide.
    Raises ModelError where the body has no arch, or its arch has no width.
    """
    arch = _arch(model)
    whole = _built(arch, model, train, seed)
    now = widths(model.body.value)
    if now != widths(whole) and narrowed(whole, [max(1, round(width * ratio)) for width in now]):
        note = f"a student of {sum(widths(whole))} channels learns from one of {sum(now)}"
        return model.with_body(whole, "network", note)
    width = max(1, round(arch.width * ratio))
    body = _built(arch.replace(width=width), model, train, seed)
    note = f"a student of width {width} learns from one of width {arch.width}"
    return model.with_body(body, "network", note, arch.replace(width=width).as_table())


def wider(model: Model, factor: float, train: Dataset, noise: float, seed: int) -> Model:
    """The model with a wider copy of its network, which answers as it does but for a little noise.

    The widths are those of the same arch with `width` times `factor`, where the network has that shape; else every
    layer becomes so much wider.
    """
    network = copy.deepcopy(model.body.value)
    groups = channels(network)
    widths = [round(group.width * factor) for group in groups]
    table = dict(model.body.arch)
    if table and "width" in settings(find("arch", table["method"])):
        arch = _arch(model)
        arch = arch.replace(width=round(arch.width * factor))
        planned = [group.width for group in channels(_built(arch, model, train, seed))]
        if len(planned) == len(groups) and all(a >= b.width for a, b in zip(planned, groups, strict=True)):
            widths, table = planned, arch.as_table()
    widen(network, widths, noise, seed)
    return model.with_body(network, "network", f"a student {factor:g} times as wide", table)


def _arch(model: Model) -> Any:
    """The arch of the model's body; one with a width."""
    table = dict(model.body.arch)
    if not table:
        raise ModelError(
            "compress.distill", "the model's body names no arch to make a narrower one of", "Leave this step out."
        )
    arch = decode("arch", table)
    if "width" not in settings(type(arch)):
        raise ModelError("compress.distill", f"arch.{table['method']} has no width", "Distil an mlp or a cnn.")
    return arch


def _built(arch: Any, model: Model, train: Dataset, seed: int) -> Any:
    return arch(model.signature, features(model.part, model.signature, train).shape[1:], seed)


def taught(model: Model, train: Dataset, task: Task) -> Any:
    """A copy of the model's network to learn from: it answers in the unit in which students learn."""
    teacher: Any = copy.deepcopy(model.body.value).eval().requires_grad_(False)
    classes = bool(model.signature.classes)
    if not classes and head(teacher) is not None:
        unfold(teacher, unit(rows(model, train, task), classes))
    return teacher


def objective(teacher: Any, classes: bool, temperature: float, share: float) -> Objective:
    """The student's loss: `share` of it from the teacher's answers to the same inputs, the rest from true labels.

    With classes that is T^2 times the divergence of softened probabilities (Hinton et al., section 2); else the
    squared difference of values. `teacher` is what `taught` gives.
    """

    def loss(raw: Tensor, inputs: Tensor, hard: Tensor) -> Tensor:
        with torch.no_grad():
            told = teacher(inputs)
        soft = divergence(raw, told, temperature) if classes else mse_loss(raw, told)
        return share * soft + (1 - share) * hard

    return loss


def divergence(raw: Tensor, told: Tensor, temperature: float) -> Tensor:
    """T^2 times the mean divergence of the student's softened probabilities from the teacher's."""
    student, teacher = log_softmax(raw / temperature, 1), log_softmax(told / temperature, 1)
    return temperature**2 * kl_div(student, teacher, reduction="batchmean", log_target=True)


def peers(networks: Sequence[Any], classes: bool, temperature: float) -> Callable[[Tensor], Tensor]:
    """What several networks say on average: the mean of softened probabilities, as logits, or of values."""

    def mean(inputs: Tensor) -> Tensor:
        said = torch.stack([network(inputs) for network in networks])
        if not classes:
            return said.mean(0)
        return temperature * (said / temperature).softmax(2).mean(0).clamp_min(1e-12).log()

    return mean


def best(models: Sequence[Model], judge: Judge) -> int:
    """The place of the best model; of equal ones that of the last, as where there are no rows to judge by."""
    found = [judge(model) for model in models]
    if all(math.isnan(quality) for quality in found):
        return len(models) - 1
    return max(range(len(models)), key=lambda place: (-math.inf if math.isnan(found[place]) else found[place], place))
