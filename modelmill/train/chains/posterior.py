"""The density of a network's weights that its training rows leave: what the rows say, and a normal prior."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from modelmill.contracts import Task
from modelmill.train.answer import forward
from modelmill.train.average import refresh
from modelmill.train.rows import Rows

SHAPE, SCALE = 1.0, 0.01
"""The inverse gamma prior of the noise in numbers, in units of the target's variance: worth two rows."""


class Posterior:
    """A copy of a network, of which the weights are one vector, and the energy that training rows give it.

    The energy is the negative logarithm of the density, in nats, without its constant: the mean loss times the rows,
    over twice the noise where numbers are learned, and half the squared weights over the prior's variance.
    """

    def __init__(self, module: torch.nn.Module, rows: Rows, task: Task, prior: float, noise: float | None) -> None:
        self.module = copy.deepcopy(module)
        self.rows, self.task, self.prior = rows, task, prior
        self.numbers = noise is not None
        """Whether numbers are learned, so that their noise counts."""
        self.learned = noise == 0
        """Whether that noise is drawn, and not given."""
        self.variance = 1.0 if not noise else noise**2
        """Of what the rows' targets differ from the truth."""
        self._parameters = _free(self.module)
        self.weights: Tensor = parameters_to_vector(self._parameters).detach().clone()
        """All weights: a change in place is a change of the network."""
        vector_to_parameters(self.weights, self._parameters)

    def slope(self, index: Tensor | slice = slice(None)) -> tuple[float, Tensor]:
        """The mean loss of some rows, and the slope of the energy that they tell of, as if all were like them."""
        _teach(self.module)
        rows, weights = self.rows, self.rows.weights
        with torch.enable_grad():
            raw = self.module(rows.features[index])
            loss = self.task.loss(raw, rows.encoded[index], None if weights is None else weights[index], 0.0)
            grads = torch.autograd.grad(loss, self._parameters, allow_unused=True, materialize_grads=True)
        told = torch.cat([grad.reshape(-1) for grad in grads])
        return float(loss.detach()), told.mul_(self._scale).add_(self.weights, alpha=self.prior**-2)

    def loss(self) -> float:
        """The mean loss of all rows as one batch."""
        _teach(self.module)
        with torch.no_grad():
            raw = self.module(self.rows.features)
            return float(self.task.loss(raw, self.rows.encoded, self.rows.weights, 0.0))

    def energy(self, loss: float) -> float:
        """The energy of the weights where the mean loss of all rows is this."""
        told = self._scale * loss + float(self.weights @ self.weights) / (2 * self.prior**2)
        return told + (len(self.rows) * float(np.log(self.variance)) / 2 if self.learned else 0.0)

    def at(self, place: Tensor) -> tuple[float, Tensor]:
        """The energy of other weights, and its slope there, by all rows; the weights are left as found."""
        here = self.weights.clone()
        self.weights.copy_(place)
        loss, slope = self.slope()
        energy = self.energy(loss)
        self.weights.copy_(here)
        return energy, slope

    def draw_noise(self, loss: float, temperature: float, random: np.random.Generator) -> None:
        """Draw the noise in the numbers, given that their mean squared error is this."""
        if self.learned:
            shape = (SHAPE + len(self.rows) / 2 + 1) / temperature - 1
            scale = (SCALE + len(self.rows) * loss / 2) / temperature
            self.variance = scale / float(random.gamma(shape))

    def network(self, place: Tensor) -> torch.nn.Module:
        """A network with these weights, in evaluation; its batch norms are at home with them."""
        network = copy.deepcopy(self.module)
        parameters = _free(network)
        vector_to_parameters(place.clone(), parameters)
        for parameter in parameters:  # each with memory of its own, as a network that goes further has
            parameter.data = parameter.data.clone()
        refresh(network, self.rows.features)
        return network

    def settled(self) -> tuple[torch.nn.Module, Tensor, float]:
        """A network of the present weights, what it answers to all rows, and their energy."""
        network = self.network(self.weights)
        raw = forward(network, self.rows.features)
        loss = float(self.task.loss(raw, self.rows.encoded, self.rows.weights, 0.0))
        return network, raw, self.energy(loss)

    def named(self, places: Tensor) -> dict[str, np.ndarray[Any, Any]]:
        """Weights (..., weights) by the names of the network's parameters, each (..., its weights)."""
        free = [(name, parameter) for name, parameter in self.module.named_parameters() if parameter.requires_grad]
        parts = places.split([parameter.numel() for _, parameter in free], dim=-1)
        return {name: part.numpy() for (name, _), part in zip(free, parts, strict=True)}

    @property
    def _scale(self) -> float:
        """By what the mean loss is multiplied to be what all rows say, in nats."""
        return len(self.rows) / (2 * self.variance) if self.numbers else float(len(self.rows))


def _free(module: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _teach(module: torch.nn.Module) -> None:
    """Let the norms see batches; nothing is dropped, as the density is that of the whole network."""
    module.train()
    for layer in module.modules():
        if isinstance(layer, torch.nn.modules.dropout._DropoutNd):
            layer.eval()


def restarted(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """A copy of the network with weights drawn anew, layer by layer as their kind does it."""
    fresh = copy.deepcopy(module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in fresh.modules():
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
    return fresh
