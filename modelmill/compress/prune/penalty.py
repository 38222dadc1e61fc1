"""A training whose loss also counts something of the network itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor, nn

from modelmill.train.training import Training
from modelmill.trial import Progress


def penalized(training: Training, penalty: Callable[[nn.Module], Tensor], step: str) -> Iterator[Progress]:
    """Run a training whose loss has the penalty of its network added, and finish with the last weights.

    The best epoch's would be those before the penalty had its way.
    """

    def objective(raw: Tensor, inputs: Tensor, loss: Tensor) -> Tensor:
        return loss + penalty(training.module)

    training.objective = objective
    yield from training.run()
    training.forget()
    yield training.finish(step)
