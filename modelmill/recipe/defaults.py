"""The spec that a build writes when little is said: search spaces by task and kind of data, tried and not guessed."""

from __future__ import annotations

from typing import Any

import msgspec

from modelmill.contracts import Arch
from modelmill.dataset import Dataset
from modelmill.errors import UsageError
from modelmill.method import find
from modelmill.model import Body, Kind, Model
from modelmill.signature import Signature
from modelmill.spec import Spec, Table, fits

PARTS: Table = {"any": [0.5, 0.75, 0.25]}
"""How much of a network a cut may take away; the first is the default."""

CHANNELS: Table = {"method": "prune.taylor", "ratio": PARTS, "multiple": {"any": [16, 4]}}
"""How channels and neurons are cut. ONNX Runtime computes convolutions in blocks of 16 channels (8 with AVX2 alone): 8
channels took longer than 16 where that was measured, and are only smaller."""

STUDENT: Table = {"method": "distill.soft", "ratio": {"any": [0.5, 0.75]}, "mix": 1.0}
"""A narrower network, where nothing can be cut out of one. It hears its teacher on blended rows, too: half of a GRU on
digits then answered as well as the whole (Beyer et al., 2021, https://arxiv.org/abs/2106.05237)."""

CUTS: dict[str, list[Table]] = {
    "rnn": [STUDENT],
    "transformer": [{"method": "prune.blocks"}, STUDENT, {"method": "prune.heads", "ratio": PARTS}],
}
"""Arch: the steps that make its networks smaller, where channels are not what can be cut."""

SHARES: Table = {"low": 0.1, "high": 0.8, "step": 0.1}
"""How many trees pruning may take away."""

SMALL = 4000
"""Rows below which candidates are judged by folds: one validation part of so few rows ranks by luck."""


def complete(spec: Spec, data: Dataset, kind: str, task: str, prepare: list[Table], live: Body | None) -> Spec:
    """The spec with every table that was not given filled in for this data.

    A sampler that follows derivatives gets no steps that may be taken or left: nothing tells them apart but a trial.
    """
    arch = spec.arch if live else spec.arch or bodies(data, kind, task)
    train = spec.train or _unasked(train_images(data) if kind == "image" else train_tables(data), arch)
    how = {**search(data, kind, len(spec.goal.objectives)), **spec.search}
    wanted = () if _differentiates(how["sampler"]) else steps(kind)
    return msgspec.structs.replace(
        spec,
        task=spec.task or {"method": task},
        prepare=spec.prepare or tuple(prepare),
        arch=arch,
        train=train,
        compress=fitting(wanted, arch, train, live) if spec.compress is None else spec.compress,
        search=how,
    )


def _differentiates(sampler: Any) -> bool:
    """Whether a sampler follows derivatives; a table that is none is refused later, in words."""
    method = sampler.get("method") if isinstance(sampler, dict) else None
    try:
        return isinstance(method, str) and bool(find("sampler", method).gradients)
    except UsageError:
        return False


def _unasked(train: Table, arch: Table) -> Table:
    """How networks are trained, but for what the only arch of a spec asks for itself."""
    cls = find("arch", arch["method"]) if "method" in arch else None
    own = cls().asks().get("train", {}) if cls is not None and issubclass(cls, Arch) else {}
    return {name: value for name, value in train.items() if name not in own}


def fitting(wanted: tuple[Table, ...], arch: Table, train: Table, live: Body | None) -> tuple[Table, ...]:
    """Those of the steps that at least one body of the arch can take.

    Of an average of many networks, as `mcmc` gives, only the graph can be compressed.
    """
    bodies: set[Kind]
    bodies = {live.kind} if live else {find("arch", option["method"]).body for option in arch.get("any", [arch])}
    if any(option.get("method") == "mcmc" for option in train.get("any", [train])):
        wanted = tuple(step for step in wanted if "graph" in find("compress", step["method"]).takes)
    return tuple(step for step in wanted if any(fits(step, body) for body in bodies))


def search(data: Dataset, kind: str, objectives: int = 1) -> Table:
    """How to search: folds for few rows, a stopper for curves.

    With several objectives whatever no other trial beats goes on, and of the rest a third at every rung: settled by
    `bench/search/stopping.py` on seeds that judge nothing, where it was ahead of `front`, which waits for finished
    trials and then hopes for what they gained.
    """
    stopper: Table = {"method": "halving" if objectives > 1 else "median"}
    folds = 5 if data.rows < SMALL and kind == "table" else 1
    return {"sampler": {"method": "portfolio"}, "stopper": stopper, "folds": folds}


def bodies(data: Dataset, kind: str, task: str) -> Table:
    """Bodies for features of that kind."""
    if kind == "sequence":
        return sequences()
    return images(data) if kind == "image" else tables(data, task)


def sequences() -> Table:
    """Bodies for sequences: recurrent units, convolutions along steps, and attention between them."""
    return {
        "any": [
            {
                "method": "rnn",
                "unit": {"any": ["gru", "lstm"]},
                "width": {"low": 8, "high": 64, "log": True},
                "both": {"any": [False, True]},
            },
            {"method": "cell", "kind": "sequence", "width": {"low": 8, "high": 48, "log": True}},
            {"method": "transformer", "width": {"low": 16, "high": 64, "step": 8}, "depth": {"low": 1, "high": 3}},
        ]
    }


def tables(data: Dataset, task: str) -> Table:
    """Bodies for tables: linear, trees, boosting and a small network."""
    many = data.rows > SMALL
    return {
        "any": [
            {"method": "linear", "strength": {"low": 1e-3, "high": 1e2, "log": True}},
            {
                "method": "boosting",
                "iterations": {"low": 30, "high": 300, "log": True},
                "learning_rate": {"low": 0.02, "high": 0.3, "log": True},
                "leaves": {"low": 4, "high": 64 if many else 32, "log": True},
            },
            {
                "method": "forest",
                "trees": {"low": 10, "high": 60 if many else 200, "log": True},
                "depth": {"low": 3, "high": 12},
            },
            {"method": "tree", "depth": {"low": 2, "high": 10}},
            {"method": "mlp", "depth": {"low": 1, "high": 3}, "width": {"low": 8, "high": 128, "log": True}},
        ]
    }


def images(data: Dataset) -> Table:
    """Bodies for images: convolutions, and a plain network as a smaller choice."""
    cnn: Table = {
        "method": "cnn",
        "width": {"low": 8, "high": 24, "log": True},
        "depth": {"low": 2, "high": 3},
        "growth": {"low": 1.5, "high": 2.0},
        "head": {"any": ["flatten", "average"]},
        "dropout": {"low": 0.0, "high": 0.3},
    }
    if data.rows > SMALL:
        return cnn
    return {
        "any": [cnn, {"method": "mlp", "depth": {"low": 1, "high": 2}, "width": {"low": 32, "high": 128, "log": True}}]
    }


def train_tables(data: Dataset) -> Table:
    """How networks on tables are trained."""
    return {
        "method": "adam",
        "learning_rate": {"low": 1e-3, "high": 2e-2, "log": True},
        "epochs": 60 if data.rows < SMALL else 20,
        "batch": 64 if data.rows < SMALL else 256,
        "weight_decay": {"low": 1e-5, "high": 1e-1, "log": True},
        "patience": 15,
    }


def train_images(data: Dataset) -> Table:
    """How networks on images are trained: small shifts make up for few rows."""
    few = data.rows < SMALL
    return {
        "method": "adam",
        "learning_rate": {"low": 2e-3, "high": 2e-2, "log": True},
        "weight_decay": {"low": 1e-3, "high": 1e-1, "log": True},
        "schedule": "one_cycle",
        "epochs": 40 if few else 20,
        "batch": 64 if few else 128,
        "patience": 0,
        "smoothing": {"low": 0.0, "high": 0.1},
        "shift": 1,
    }


def recipe(model: Model, signature: Signature) -> tuple[Table, ...]:
    """The steps from which compressing a version may choose: few, and each dropped where it breaks its word."""
    image = any(field.kind == "image" for field in signature.inputs)
    body = model.body
    if body.kind == "graph" and trees(body.value):
        return ({"method": "prune.trees", "optional": True, "ratio": dict(SHARES)},)
    numbers: list[Table] = [{"method": "quantize.static"}]
    numbers += [] if image else [{"method": "quantize.dynamic"}, {"method": "quantize.blocks", "bits": {"any": [4, 8]}}]
    numbers += [{"method": "quantize.codebook", "bits": {"any": [4, 8]}}, {"method": "quantize.float16"}]
    fewer: Table = {"optional": True, "any": numbers}
    clean: Table = {"method": "convert.clean", "optional": True}
    if body.kind != "network":
        return (clean, fewer)
    options = CUTS.get(str(body.arch.get("method", "")), [CHANNELS])
    cut: Table = {**options[0], "optional": True} if len(options) == 1 else {"optional": True, "any": options}
    return (cut, clean, fewer)


def trees(graph: bytes) -> bool:
    """Whether a graph is made of trees: there are no weights in it that fewer bits could be given."""
    from modelmill.graph.clean import load
    from modelmill.graph.scopes import nodes

    return any(node.op_type.startswith("TreeEnsemble") for node in nodes(load(graph)))


def steps(kind: str) -> tuple[Table, ...]:
    """The compression steps that a search may take or leave."""
    if kind == "sequence":  # channels cannot be followed through recurrent units, which a search may pick
        return ({"method": "quantize.dynamic", "optional": True},)
    pruning: dict[str, Any] = {"method": "prune.magnitude", "optional": True, "ratio": {"low": 0.1, "high": 0.6}}
    whole: Table = {"method": "quantize.dynamic" if kind == "table" else "quantize.static", "optional": True}
    return (pruning, whole)
