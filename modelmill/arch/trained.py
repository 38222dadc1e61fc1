"""Goes on from a body that was trained before."""

from __future__ import annotations

from typing import Any, ClassVar

from modelmill.contracts import Heir
from modelmill.errors import ModelError
from modelmill.model import Body, Kind
from modelmill.signature import Signature


class Trained(Heir):
    """The network of a version with its weights; where there are other outputs, with a new last layer.

    Preparation is fitted anew on the data at hand, and must give features of the shape that the network was made for.

    Yosinski, Clune, Bengio, Lipson (2014), https://arxiv.org/abs/1411.1792
    """

    model: str
    """The version whose body it starts from: NAME, NAME@3 or NAME@alias."""

    body: ClassVar[Kind] = "network"
    kinds: ClassVar[frozenset[str]] = frozenset({"table", "image", "sequence"})
    tasks: ClassVar[frozenset[str]] = frozenset({"classify", "regress"})

    def __call__(self, base: Body, signature: Signature, features: tuple[int, ...], seed: int) -> Any:
        """A copy of the base's module, its head for the outputs of `signature`."""
        import copy

        from modelmill.network.blocks import outputs

        fitting(self.model, base, features)
        module = copy.deepcopy(base.value)
        renew_head(module, outputs(signature), seed)
        return module


def fitting(model: str, base: Body, features: tuple[int, ...]) -> None:
    """Refuse a base that was made for other features."""
    if base.features and tuple(base.features) != tuple(features):
        raise ModelError(
            f"arch.model = {model!r}",
            f"its network takes features of shape {tuple(base.features)}, and these data give {tuple(features)}",
            "Prepare the data as it was done for that model, or start from another.",
        )


def single(module: Any) -> None:
    """Refuse several networks that answer as one: none of them could be changed alone."""
    from modelmill.network.mixture import Mixture

    if any(isinstance(part, Mixture) for part in module.modules()):
        hint = "Start from a model that was trained by another method than mcmc, or distill the average first."
        raise ModelError("arch", "the trained network is several networks that answer as one", hint)


def renew_head(module: Any, outputs: int, seed: int) -> None:
    """Give a network a new last layer, in place, where it has another number of outputs."""
    from torch import nn

    from modelmill.network.blocks import seeded

    path = next((name for name, layer in reversed(list(module.named_modules())) if isinstance(layer, nn.Linear)), None)
    if path is None:
        raise ModelError("arch", "the trained network ends in no linear layer", "Start from another model.")
    head = module.get_submodule(path)
    if head.out_features == outputs:
        return
    single(module)
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, seeded(lambda: nn.Linear(head.in_features, outputs), seed))
