"""A narrower network of the same architecture, and what it learns from its teacher."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, mse_loss

from modelmill.contracts import Task
from modelmill.dataset import Dataset
from modelmill.errors import ModelError
from modelmill.method import decode, settings
from modelmill.model import Model
from modelmill.train.fit import Objective
from modelmill.train.rows import head, rows, unfold, unit


def narrower(model: Model, ratio: float, train: Dataset, seed: int) -> Model:
    """The model with an untrained body in place of its own: the same arch, with `width` times `ratio`.

    Raises ModelError where the body has no arch, or its arch has no width.
    """
    from modelmill.runtime.features import features

    table = dict(model.body.arch)
    if not table:
        raise ModelError("distill", "the model's body names no arch to make a narrower one of", "Leave this step out.")
    arch = decode("arch", table)
    if "width" not in settings(type(arch)):
        raise ModelError("distill", f"arch.{table['method']} has no width", "Distil an mlp or a cnn.")
    width = max(1, round(arch.width * ratio))
    arch = arch.replace(width=width)
    shape = features(model.part, model.signature, train).shape[1:]
    body = arch(model.signature, shape, seed)
    note = f"a student of width {width} learns from one of width {table.get('width', decode('arch', table).width)}"
    return model.with_body(body, "network", note, arch.as_table())


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
