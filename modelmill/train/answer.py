"""What a network answers: its raw outputs, and the named outputs of the model that they are."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from modelmill.contracts import Array
from modelmill.model import Model

CHUNK = 1024
"""Rows of one pass where nothing is learned."""


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
