"""Recurrent layers that take and give what convolutions along steps do: (batch, channels, steps)."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

UNITS = {"gru": nn.GRU, "lstm": nn.LSTM, "plain": nn.RNN}


class Recurrent(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A recurrent unit that walks over the steps: from the first to the last and, with `both`, back as well.

    kind: "gru", "lstm" or "plain" (a tanh of sums). last: give what it knows at the end of its way, and not at every
    step. With `both` the channels of the way back lie behind those of the way forth.

    Cho et al. (2014), https://arxiv.org/abs/1406.1078; Hochreiter & Schmidhuber (1997),
    https://doi.org/10.1162/neco.1997.9.8.1735; Elman (1990), https://doi.org/10.1207/s15516709cog1402_1
    """

    def __init__(self, given: int, width: int, kind: str = "gru", *, both: bool = False, last: bool = False) -> None:
        super().__init__()
        self.kind, self.last = kind, last
        self.unit = UNITS[kind](given, width, batch_first=True, bidirectional=both)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, steps) to (batch, made, steps), or with `last` to (batch, made)."""
        every, state = self.unit(x.transpose(1, 2))
        if not self.last:
            return cast(Tensor, every.transpose(1, 2))
        end = state[0] if self.kind == "lstm" else state
        return cast(Tensor, end.transpose(0, 1).flatten(1))
