"""The training loop for networks: data in memory, a generator of epochs, the same bits for the same seed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from modelmill.contracts import Array, Task
from modelmill.dataset import Splits
from modelmill.errors import TrialError
from modelmill.model import Model
from modelmill.train import checkpoint as checkpoints
from modelmill.train.average import Average, tensors
from modelmill.train.distort import background, distort, generator, mixed
from modelmill.train.plan import Plan
from modelmill.train.recipe import Recipe
from modelmill.train.rows import Rows, fold, head, rows, standardized, unfold, unit
from modelmill.train.schedule import factor
from modelmill.trial import Progress

Objective = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A loss in place of the task's: of raw outputs, the inputs they come from, and the task's loss."""

SMALL = 16
"""Batches are made smaller than asked for where an epoch would have fewer than eight of them, down to this."""
CHUNK = 1024
"""Rows of one pass where nothing is learned."""


def fit(
    model: Model, data: Splits, task: Task, recipe: Recipe, seed: int, checkpoint: Path | None = None
) -> Iterator[Progress]:
    """Train a copy of the model's network: one Progress an epoch, and a last one that holds the result.

    With a `checkpoint` path the training goes on from that file, to the same bits, and keeps it up to date.
    A network that was trained before goes on from its weights.
    """
    trained = any(line.startswith("train.") for line in model.history)
    training = Training(model, data, task, recipe, seed, warm=trained)
    yield from training.run(checkpoint)
    yield training.finish(f"train.{recipe.optimizer}")


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
    ) -> None:
        self.model, self.task, self.recipe, self.seed, self.objective = model, task, recipe, seed, objective
        self.module: torch.nn.Module = copy.deepcopy(model.body.value)
        classes = bool(model.signature.classes)
        train = rows(model, data.train, task, recipe.class_weights == "balanced")
        self.unit = unit(train, classes or head(self.module) is None)
        self.train = standardized(train, self.unit)
        self.valid = standardized(rows(model, data.valid, task), self.unit) if data.valid.rows else None
        if warm:
            unfold(self.module, self.unit)
        self.layout = _layout(self.module, self.train.features)
        self.module.to(memory_format=self.layout)
        self.averaged = Average(self.module, recipe.average)
        self.optimizer = _optimizer(self.module, recipe)
        batch = min(recipe.batch, max(SMALL, len(train) // 8))
        self.steps = math.ceil(len(train) / batch)
        """Steps of one epoch."""
        self.plan = Plan(self.steps * recipe.epochs, recipe.seconds)
        self.epoch = 0
        self.best: tuple[float, float] | None = None
        """Quality and negative loss on the validation rows, of the best epoch."""
        self.kept: Mapping[str, Tensor] = {}
        """The weights of the best epoch."""
        self.values: dict[str, float] = {}
        self.masks: Mapping[str, Tensor] = {}
        """Weights by name: where they may differ from zero; empty where all may."""
        self.waited = 0
        """Epochs since the best one."""
        self._fill = background(self.train.features) if recipe.shift else 0.0
        self._key = _key(recipe, seed, data)

    @property
    def epochs(self) -> int:
        """How many epochs are planned."""
        return max(math.ceil(self.plan.total / self.steps), self.epoch)

    def run(self, checkpoint: Path | None = None) -> Iterator[Progress]:
        """Train epoch by epoch until the plan is done, or the quality no longer rises."""
        if checkpoint is not None:
            self._resume(checkpoint)
        while not self.plan.over and not (self.recipe.patience and self.waited >= self.recipe.patience):
            values = {"train_loss": self._learn(), "learning_rate": self._rate()}
            self.epoch += 1
            values |= self._judge(values)
            self.plan.fit()
            if checkpoint is not None:
                self._save(checkpoint)
            yield Progress(self.epoch, self.epochs, values)

    def finish(self, step: str) -> Progress:
        """The last Progress, with the trained model: the best epoch's weights where there were validation rows."""
        module = copy.deepcopy(self.averaged.module)
        if self.kept:
            module.load_state_dict(self.kept)
        fold(module, self.unit)
        module.eval().requires_grad_(True).to(memory_format=torch.contiguous_format)
        notes = [self.plan.note(self.steps), self._stopped()]
        note = "; ".join(note for note in notes if note)
        line = f"{step}: {self.epoch} epochs, learning rate {self.recipe.learning_rate:g}"
        result = self.model.with_body(module, "network", line)
        return Progress(self.epoch, self.epoch, self.values, note, result)

    def forget(self) -> None:
        """Drop the best weights so far: the network was changed, and they no longer count."""
        self.best, self.kept, self.waited = None, {}, 0

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
        if self.plan.over or not self.recipe.patience:
            return ""
        return f"stopped after {self.epoch} epochs: no better one in the last {self.recipe.patience}"

    def _rate(self) -> float:
        return self.recipe.learning_rate * factor(self.recipe.schedule, self.recipe.warmup, self.plan.share)

    def _learn(self) -> float:
        """One epoch of steps, or what is left of the plan; the mean loss."""
        random = generator(self.seed, 1, self.epoch)
        order = torch.from_numpy(random.permutation(len(self.train)))
        losses = []
        self.module.train()
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(int(random.integers(2**62)))
            for index in order.tensor_split(self.steps):
                losses.append(self._step(index, random))
                if self.plan.over:
                    break
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise TrialError(f"epoch {self.epoch + 1}", f"the training loss became {loss}", "Lower the learning rate.")
        return loss

    def _step(self, index: Tensor, random: np.random.Generator) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(index, random)
        loss.backward()
        if self.recipe.clip:
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.plan.step()
        self._apply(self.module)
        self.averaged.update(self.plan.done)
        return loss.detach()

    def _loss(self, index: Tensor, random: np.random.Generator) -> Tensor:
        batch = distort(self.train.features[index], self.recipe, self._fill, random)
        target = self.train.encoded[index]
        weights = None if self.train.weights is None else self.train.weights[index]
        smoothing = self.recipe.smoothing
        if self.recipe.mix:
            batch, other, share = mixed(batch, self.recipe.mix, random)
            raw = self.module(batch)
            turned = None if weights is None else weights[other]
            loss = share * self.task.loss(raw, target, weights, smoothing)
            loss = loss + (1 - share) * self.task.loss(raw, target[other], turned, smoothing)
        else:
            raw = self.module(batch)
            loss = self.task.loss(raw, target, weights, smoothing)
        return loss if self.objective is None else self.objective(raw, batch, loss)

    def _judge(self, values: Mapping[str, float]) -> dict[str, float]:
        """Loss and quality on the validation rows; the weights are kept where they are the best so far."""
        if self.valid is None:
            self.values = dict(values)
            return {}
        from modelmill.metrics.score import better, score

        raw = forward(self.averaged.module, self.valid.features)
        loss = float(self.task.loss(raw, self.valid.encoded, self.valid.weights, 0.0))
        name = self.task.metrics[0]
        outputs = answers(raw.numpy() * self.unit.deviation + self.unit.mean, self.model)
        quality = score([name], outputs, self.valid.targets, self.model.signature.classes)[name]
        found = {"valid_loss": loss, f"valid_{name}": quality}
        rank = (quality if better(name) == "higher" else -quality, -loss)
        self.waited += 1
        if self.best is None or _higher(rank, self.best):
            self.best, self.waited, self.values = rank, 0, {**values, **found, "best_epoch": float(self.epoch)}
            self.kept = {key: value.clone() for key, value in tensors(self.averaged.module).items()}
        return found

    def _save(self, path: Path) -> None:
        optimizer = self.optimizer.state_dict()["state"]
        parts: dict[str, Mapping[str, Any]] = {
            "module": tensors(self.module),
            "average": tensors(self.averaged.module) if self.recipe.average else {},
            "kept": self.kept,
            **{f"optimizer.{index}": state for index, state in optimizer.items()},
        }
        flat = {f"{part}/{name}": value for part, found in parts.items() for name, value in found.items()}
        state = {
            "key": self._key,
            "epoch": self.epoch,
            "done": self.plan.done,
            "total": self.plan.total,
            "elapsed": self.plan.elapsed,
            "best": self.best,
            "values": self.values,
            "waited": self.waited,
        }
        checkpoints.save(path, {name: value for name, value in flat.items() if value is not None}, state)

    def _resume(self, path: Path) -> None:
        found = checkpoints.load(path, self._key)
        if found is None:
            return
        flat, state = found
        parts: dict[str, dict[str, Tensor]] = {}
        for name, value in flat.items():
            part, _, key = name.partition("/")
            parts.setdefault(part, {})[key] = value
        self.module.load_state_dict(parts["module"])
        if self.recipe.average:
            self.averaged.module.load_state_dict(parts["average"])
        self.kept = parts.get("kept", {})
        self._restore({int(name.partition(".")[2]): found for name, found in parts.items() if "optimizer." in name})
        self.epoch, self.waited, self.values = state["epoch"], state["waited"], state["values"]
        self.best = None if state["best"] is None else (state["best"][0], state["best"][1])
        self.plan.done, self.plan.total, self.plan.spent = state["done"], state["total"], state["elapsed"]

    def _restore(self, learned: Mapping[int, Mapping[str, Any]]) -> None:
        """Give the optimizer its numbers, laid out as the weights are: its fused step walks both side by side."""
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": learned})
        for numbers in self.optimizer.state.values():
            for name, value in numbers.items():
                if isinstance(value, Tensor) and value.ndim == 4:
                    numbers[name] = value.contiguous(memory_format=self.layout)


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


def _key(recipe: Recipe, seed: int, data: Splits) -> str:
    """What a checkpoint must share with the training that goes on from it."""
    return msgspec.json.encode((recipe, seed, data.train.digest, data.valid.digest)).decode()


def _optimizer(module: torch.nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer of the recipe; biases and norms do not decay."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "adam":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
    momentum = recipe.momentum
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=momentum, nesterov=momentum > 0, fused=True)


def forward(module: torch.nn.Module, features: Tensor) -> Tensor:
    """The raw outputs of a network for all rows, in evaluation mode; the mode is left as found."""
    training = module.training
    module.eval()
    with torch.no_grad():
        raw = torch.cat([module(chunk) for chunk in features.split(CHUNK)])
    module.train(training)
    return raw


def answers(raw: Array, model: Model) -> dict[str, Array]:
    """A network's raw outputs as the named outputs of the model: label and probabilities, or value."""
    classes = model.signature.classes
    if not classes:
        return {"value": raw.reshape(len(raw)).astype(np.float32)}
    shares = np.exp(raw - raw.max(axis=1, keepdims=True))
    known = np.array(classes, object if isinstance(classes[0], str) else np.int64)
    return {"label": known[raw.argmax(axis=1)], "probabilities": shares / shares.sum(axis=1, keepdims=True)}


__all__ = ["Objective", "Recipe", "Rows", "Training", "answers", "fit", "forward"]
