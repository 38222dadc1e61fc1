"""The training loop for networks: data in memory, a generator of epochs, the same bits for the same seed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modelmill.augment.chain import augment, check
from modelmill.augment.draws import generator
from modelmill.contracts import Task
from modelmill.dataset import Splits
from modelmill.errors import SpecError, TrialError
from modelmill.model import Model
from modelmill.train.answer import answers, forward
from modelmill.train.average import Average, EpochMean, tensors
from modelmill.train.optimizer import optimizer
from modelmill.train.plan import Plan
from modelmill.train.recipe import Recipe
from modelmill.train.rows import Rows, fold, head, rows, some, standardized, unfold, unit
from modelmill.train.schedule import Plateau, rate
from modelmill.train.tuning import Tuner, Tuning
from modelmill.trial import Progress

Objective = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A loss in place of the task's: of raw outputs, the inputs they come from, and the task's loss."""

SMALL = 16
"""Batches are made smaller than asked for where an epoch would have fewer than eight of them, down to this."""

SEEN = 4096
"""Training rows, evenly spread, whose quality is told beside that of the validation rows."""


class Training:
    """A training with its state in the open: whoever iterates over `run` may look at it, and change it, in between.

    All that is random in an epoch depends on the seed and the epoch's number, so that the state is small.
    """

    def __init__(
        self,
        model: Model,
        data: Splits,
        task: Task,
        recipe: Recipe,
        seed: int,
        *,
        warm: bool = False,
        objective: Objective | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        self.model, self.task, self.recipe, self.seed, self.objective = model, task, recipe, seed, objective
        self.tuning = tuning
        self.module: torch.nn.Module = copy.deepcopy(model.body.value)
        classes = bool(model.signature.classes)
        if recipe.focal and not classes:
            raise SpecError("train.focal", "there are no classes to tell apart", "Leave it at 0 for numbers.")
        train = rows(model, data.train, task, recipe.class_weights == "balanced")
        self.unit = unit(train, classes or head(self.module) is None)
        self.train = standardized(train, self.unit)
        self.valid = standardized(rows(model, data.valid, task), self.unit) if data.valid.rows else None
        self.digests = (data.train.digest, data.valid.digest)
        if warm:
            unfold(self.module, self.unit)
        self.layout = _layout(self.module, self.train.features)
        self.module.to(memory_format=self.layout)
        self.tuner = None if tuning is None else Tuner(self.module, tuning)
        self.averaged = Average(self.module, recipe.average)
        self.mean = EpochMean()
        """The mean of the weights at the ends of the last epochs, where the recipe asks for it (SWA)."""
        self.optimizer = optimizer(self.module, recipe, self.tuner)
        self.augmentations = recipe.augmentations(self.train.features.ndim == 4)
        check(self.augmentations, self.train.features.shape)
        batch = min(recipe.batch, max(SMALL, len(train) // 8))
        self.steps = math.ceil(len(train) / batch)
        """Steps of one epoch."""
        self.plan = Plan(self.steps * recipe.epochs, recipe.seconds)
        self.plateau = Plateau(recipe.plateau_patience)
        self.epoch = 0
        self.rows = 0
        """Training rows that were learned from so far, each counted as often as it was."""
        self.best: tuple[float, float] | None = None
        """Quality and negative loss on the validation rows, of the best epoch."""
        self.kept: Mapping[str, Tensor] = {}
        """The weights of the best epoch."""
        self.values: dict[str, float] = {}
        self.masks: Mapping[str, Tensor] = {}
        """Weights by name: where they may differ from zero; empty where all may."""
        self.waited = 0
        """Epochs since the best one."""

    @property
    def epochs(self) -> int:
        """How many epochs are planned."""
        return max(math.ceil(self.plan.total / self.steps), self.epoch)

    @property
    def tired(self) -> bool:
        """Whether the quality did not rise for as long as the recipe waits; a mean of last epochs needs them all."""
        return bool(self.recipe.patience) and self.waited >= self.recipe.patience and not self.recipe.swa

    def run(self) -> Iterator[Progress]:
        """Train epoch by epoch until the plan is done, or the quality no longer rises."""
        while not self.plan.over and not self.tired:
            values = {"train_loss": self._learn(), "learning_rate": self._rate(), "rows": float(self.rows)}
            self.epoch += 1
            values |= self._judge(values)
            if self.recipe.schedule == "plateau":
                self.plateau.look(values.get("valid_loss", values["train_loss"]))
            if self.recipe.swa and self.plan.share > 1 - self.recipe.swa + 1e-9:
                self.mean.take(self.module)
            self.plan.fit()
            yield Progress(self.epoch, self.epochs, values)

    def finish(self, step: str) -> Progress:
        """The last Progress, with the trained model: the mean of the last epochs where the recipe asks for it, else
        the best epoch's weights where there were validation rows."""
        values = dict(self.values)
        if self.mean.count:
            module = self.mean.settled(self.module, self.train.features)
            values |= {**self._figures(module, self.valid, "valid"), "best_epoch": float(self.epoch)}
        else:
            module = copy.deepcopy(self.averaged.module)
            if self.kept:
                module.load_state_dict(self.kept)
        values |= {**self._figures(module, some(self.train, SEEN), "train"), "rows": float(self.rows)}
        fold(module, self.unit)
        module.eval().requires_grad_(True).to(memory_format=torch.contiguous_format)
        notes = [self.plan.note(self.steps), self._stopped(), self._averaged()]
        note = "; ".join(note for note in notes if note)
        line = f"{step}: {self.epoch} epochs, learning rate {self.recipe.learning_rate:g}"
        result = self.model.with_body(module, "network", line)
        return Progress(self.epoch, self.epoch, values, note, result)

    def forget(self) -> None:
        """Drop the best weights so far: the network was changed, and they no longer count."""
        self.best, self.kept, self.waited, self.mean = None, {}, 0, EpochMean()

    def mask(self, masks: Mapping[str, Tensor]) -> None:
        """Hold the weights at zero, from now on, where their mask is False; what was best before no longer counts."""
        self.masks = masks
        self._apply(self.module)
        self._apply(self.averaged.module)
        self.forget()

    def _apply(self, module: torch.nn.Module) -> None:
        if self.masks:
            weights = tensors(module)
            for name, mask in self.masks.items():
                weights[name].mul_(mask)

    def _stopped(self) -> str:
        if self.plan.over or not self.tired:
            return ""
        return f"stopped after {self.epoch} epochs: no better one in the last {self.recipe.patience}"

    def _averaged(self) -> str:
        return f"the mean of the weights after {self.mean.count} epochs" if self.mean.count else ""

    def _rate(self) -> float:
        return rate(self.recipe, self.plan.share, self.plateau.drops)

    def _learn(self) -> float:
        """One epoch of steps, or what is left of the plan; the mean loss."""
        random = generator(self.seed, 1, self.epoch)
        order = torch.from_numpy(random.permutation(len(self.train)))
        losses = []
        self.module.train()
        if self.tuner is not None:
            self.tuner.freeze(self.epoch)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            # torch.manual_seed would look for other devices, which takes 200 times as long.
            torch.default_generator.manual_seed(int(random.integers(2**62)))
            for index in order.tensor_split(self.steps):
                losses.append(self._step(index, random))
                if self.plan.over:
                    break
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise TrialError(f"epoch {self.epoch + 1}", f"the training loss became {loss}", "Lower the learning rate.")
        return loss

    def _step(self, index: Tensor, random: np.random.Generator) -> Tensor:
        now = self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = now * group.get("scale", 1.0)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(index, random)
        loss.backward()
        if self.recipe.clip:
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.clip)
        self._move()
        self.plan.step()
        self.rows += len(index)
        self._apply(self.module)
        self.averaged.update(self.plan.done)
        return loss.detach()

    def _move(self) -> None:
        """Step along the gradients, and towards where fine-tuning started as the optimizer lets weights decay."""
        apart = self.recipe.optimizer == "adam" and self.recipe.decoupled
        if self.tuner is not None and not apart:
            self.tuner.pull_gradients()
        self.optimizer.step()
        if self.tuner is not None and apart:
            for group in self.optimizer.param_groups:
                self.tuner.pull_weights(group)

    def _loss(self, index: Tensor, random: np.random.Generator) -> Tensor:
        batch, other, share = augment(self.augmentations, self.train.features[index], random)
        target = self.train.encoded[index]
        weights = None if self.train.weights is None else self.train.weights[index]
        smoothing, focal = self.recipe.smoothing, self.recipe.focal
        raw = self.module(batch)
        loss = self.task.loss(raw, target, weights, smoothing, focal)
        if other is not None:
            turned = None if weights is None else weights[other]
            loss = share * loss + (1 - share) * self.task.loss(raw, target[other], turned, smoothing, focal)
        return loss if self.objective is None else self.objective(raw, batch, loss)

    def _judge(self, values: Mapping[str, float]) -> dict[str, float]:
        """Loss and quality on the validation rows; the weights are kept where they are the best so far."""
        if self.valid is None:
            self.values = dict(values)
            return {}
        from modelmill.metrics.score import better

        found = self._figures(self.averaged.module, self.valid, "valid")
        name = self.task.metrics[0]
        quality, loss = found[f"valid_{name}"], found["valid_loss"]
        rank = (quality if better(name) == "higher" else -quality, -loss)
        self.waited += 1
        if self.best is None or _higher(rank, self.best):
            self.best, self.waited, self.values = rank, 0, {**values, **found, "best_epoch": float(self.epoch)}
            self.kept = {key: value.clone() for key, value in tensors(self.averaged.module).items()}
        return found

    def _figures(self, module: torch.nn.Module, part: Rows | None, label: str) -> dict[str, float]:
        """Loss and quality of a network on some rows; the loss of training rows is known from learning."""
        if part is None:
            return {}
        from modelmill.metrics.score import score

        raw = forward(module, part.features)
        name = self.task.metrics[0]
        outputs = answers(raw.numpy() * self.unit.deviation + self.unit.mean, self.model)
        quality = {f"{label}_{name}": score([name], outputs, part.targets, self.model.signature.classes)[name]}
        if label == "train":
            return quality
        return {f"{label}_loss": float(self.task.loss(raw, part.encoded, part.weights, 0.0)), **quality}


def _layout(module: torch.nn.Module, features: Tensor) -> Any:
    """How images lie in memory: with channels last training is a fifth to a third faster on a CPU.

    Not where a 1x1 convolution skips pixels: in that layout, with less than eight channels, its backward pass in torch
    2.13 writes outside its memory.
    """
    convolutions = [layer for layer in module.modules() if isinstance(layer, torch.nn.Conv2d)]
    skips = any(layer.kernel_size == (1, 1) and layer.stride != (1, 1) for layer in convolutions)
    return torch.contiguous_format if features.ndim != 4 or skips else torch.channels_last


def _higher(rank: tuple[float, float], best: tuple[float, float]) -> bool:
    """Whether a rank beats the best; a quality that is not defined leaves the word to the loss."""
    if math.isnan(rank[0]) or math.isnan(best[0]):
        return rank[1] > best[1]
    return rank > best
