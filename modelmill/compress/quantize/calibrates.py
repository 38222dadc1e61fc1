"""What quantizers with scales from training rows share: their settings, and what they do with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta

from modelmill.dataset import Dataset, Splits

if TYPE_CHECKING:
    from modelmill.compress.quantize.calibrate import Ranges, Rounded


@dataclass(frozen=True, kw_only=True)
class Calibrates:
    """Settings of a quantization of a graph to 8 bits; a compressor has them by deriving from this."""

    per_channel: bool = True
    """One scale for each output channel of the weights, instead of one for all."""
    weight_bits: Literal[7, 8] = 7
    """7 of 8 bits keep sums exact on processors without 8-bit dot products; with 8 these may saturate there."""
    calibration: Literal["minmax", "entropy", "percentile"] = "minmax"
    """How the range of an activation is chosen from what was seen."""
    rows: Annotated[int, Meta(ge=1)] = 512
    """Training rows to calibrate on, at most."""
    smallest: Annotated[int, Meta(ge=1)] = 64
    """Weights with fewer numbers than this stay floats."""

    @property
    def high(self) -> int:
        """The largest code of a weight."""
        return int(2 ** (self.weight_bits - 1) - 1)

    def sampled(self, data: Splits, seed: int) -> Dataset:
        """The rows to calibrate on."""
        from modelmill.compress.quantize.graphs import sample

        return sample(data, self.rows, seed)

    def seen(self, proto: Any, nodes: list[str], rows: Dataset) -> Ranges:
        """The ranges of the values between those nodes."""
        from modelmill.compress.quantize.calibrate import chosen, ranges

        return ranges(proto, chosen(proto, nodes), rows, self.calibration)

    def paired(self, proto: Any, nodes: list[str], seen: Ranges, rounded: Mapping[str, Rounded] | None = None) -> Any:
        """The model with pairs around those nodes. Weights that were rounded before are on their grid as they are."""
        from modelmill.compress.quantize.calibrate import paired

        fewer = self.weight_bits == 7 and rounded is None
        return paired(proto, nodes, seen, per_channel=self.per_channel, reduce_range=fewer, rounded=rounded)
