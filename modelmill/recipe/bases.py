"""Trained models from the registry that a run starts from, or that its steps ask."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import msgspec

from modelmill.contracts import Arch, Heir
from modelmill.errors import ModelError, SpecError, UnknownModel
from modelmill.finding import Finding
from modelmill.method import decode, find
from modelmill.model import Body, Model, Part
from modelmill.registry.registry import Registry
from modelmill.spec import Spec, Table, read
from modelmill.version import Version

PREPARATION = "prepare.onnx"
"""The file of a version that holds the preparation before its body."""


SEARCHED = "searched."
"""What the names of files begin with that hold the model as it was searched, which has not seen the validation rows."""


def named(spec: Spec, registry: Registry) -> Spec:
    """The spec with every reference to a trained model as NAME@NUMBER: an alias may point elsewhere tomorrow.

    Raises UnknownModel for a model that is not there.
    """
    if spec.base:
        spec = msgspec.structs.replace(spec, base=registry.find(spec.base).reference)
    if any(True for _ in asked(spec)):
        steps = tuple(_step(step, registry) for step in spec.compress or ())
        spec = msgspec.structs.replace(spec, compress=steps)
    if not any(True for _ in heirs(spec)):
        return spec
    options = [
        {**option, "model": _versions(option["model"], registry)} if _is_heir(option) and "model" in option else option
        for option in spec.arch.get("any", [spec.arch])
    ]
    return msgspec.structs.replace(spec, arch={"any": options} if "any" in spec.arch else options[0])


def asked(spec: Spec) -> Iterator[str]:
    """The references to models that steps of compression ask: second teachers."""
    for step in spec.compress or ():
        for option in step.get("any", [step]):
            if option.get("model"):
                yield from option["model"]["any"] if isinstance(option["model"], dict) else [option["model"]]


def others(spec: Spec, registry: Registry) -> dict[str, Model]:
    """Reference to model, for every model that steps of compression ask."""
    return {reference: model_of(registry.find(reference), registry) for reference in asked(spec)}


def model_of(version: Version, registry: Registry, prefix: str = "") -> Model:
    """A version as a model that can be milled: its network where it keeps one with its preparation, else its graph.

    prefix: SEARCHED for the model as it was before it was made anew with more rows.
    """
    kept = _kept(version, registry, prefix)
    if kept.get("arch") and "features" in kept and prefix + PREPARATION in version.files:
        from modelmill.graph.preparation import read

        prepare = read(registry.file(version, prefix + PREPARATION))
        return Model((Part(_body(version.reference, registry, prefix), prepare),), version.signature)
    return Model((Part(Body("graph", registry.file(version, f"{prefix}model.onnx"))),), version.signature)


def _kept(version: Version, registry: Registry, prefix: str = "") -> dict[str, Any]:
    if f"{prefix}body.json" not in version.files:
        return {}
    return msgspec.json.decode(registry.file(version, f"{prefix}body.json"), type=dict[str, Any])


def _step(step: Table, registry: Registry) -> Table:
    if "any" in step:
        return {**step, "any": [_step(option, registry) for option in step["any"]]}
    return {**step, "model": _versions(step["model"], registry)} if step.get("model") else step


def bases(spec: Spec, registry: Registry) -> dict[str, Body]:
    """Reference to body, for every trained model that the spec's arch may start from."""
    return {reference: _body(reference, registry) for reference in heirs(spec)}


def spec_of(version: Version, registry: Registry) -> Spec:
    """The spec that a version was made by; one without anything where it was made elsewhere."""
    if "spec.toml" not in version.files:
        return Spec(data={})
    return read(tomllib.loads(registry.file(version, "spec.toml").decode()))


def cut_by(version: Version, registry: Registry) -> Spec:
    """The spec by which a version's rows were read and split: its own, or that of its first ancestor of the same rows.

    A child that was compressed with its parent's rows had its parent's test rows, whatever its own seed.
    """
    spec = spec_of(version, registry)
    if not spec.base:
        return spec
    try:
        parent = registry.find(spec.base)
    except UnknownModel:
        return spec
    return cut_by(parent, registry) if parent.lineage.data == version.lineage.data else spec


def familiar(spec: Spec, registry: Registry, data: str) -> Iterator[Finding]:
    """What to say of models that a run starts from or asks, and that have learned from these very rows.

    data: the digest of the rows. One that was made with another seed had other rows for its tests.
    """
    for reference in dict.fromkeys([*heirs(spec), *asked(spec)]):
        version = registry.find(reference)
        if version.lineage.data != data:
            continue
        seed = cut_by(version, registry).seed
        if seed == spec.seed:
            said, hint = "the validation rows", "Figures on validation rows flatter; those on test rows do not."
        else:
            said = "validation rows and, where the data state no test set, test rows: it was made with another seed"
            hint = f"Build with --seed {seed}, as it was."
        yield Finding("known", "warning", reference, f"it has learned from {said}", hint)


def heirs(spec: Spec) -> Iterator[str]:
    """The references to trained models in a spec."""
    for option in spec.arch.get("any", [spec.arch]) if spec.arch else ():
        if _is_heir(option):
            if not option.get("model"):
                raise SpecError(f"arch.{option['method']}", "needs the setting 'model'", "Write model = 'NAME@NUMBER'.")
            yield from option["model"]["any"] if isinstance(option["model"], dict) else [option["model"]]


def _is_heir(option: Table) -> bool:
    return issubclass(find("arch", option["method"]), Heir)


def _versions(model: Any, registry: Registry) -> Any:
    if isinstance(model, dict):
        return {"any": [registry.find(reference).reference for reference in model["any"]]}
    return registry.find(model).reference


def _body(reference: str, registry: Registry, prefix: str = "") -> Body:
    """The network that a version was milled from, with its weights; of a graph from outside, what can be read of it.

    Raises ModelError for a version that has none, as an estimator.
    """
    version = registry.find(reference)
    if "body.json" not in version.files and "spec.toml" not in version.files:
        from modelmill.graph.reading import read as read_network

        network, shape = read_network(registry.file(version, "model.onnx"), reference)
        return Body("network", network, features=shape)
    if "body.json" not in version.files:
        raise ModelError(reference, "keeps no network to start from", "Start from a version with a network as body.")
    from safetensors.torch import load

    from modelmill.network.blocks import fill
    from modelmill.network.mixture import like

    kept = _kept(version, registry, prefix)
    if "arch" not in kept or "features" not in kept:
        raise ModelError(reference, "keeps no shape of its features: an older modelmill made it", "Build it anew.")
    arch: Arch | Heir = decode("arch", kept["arch"])
    features = tuple(kept["features"])
    weights = load(registry.file(version, f"{prefix}body.safetensors"))

    def make() -> Any:
        if isinstance(arch, Heir):
            return arch(_body(arch.model, registry), version.signature, features, 0)
        return arch(version.signature, features, 0)

    module = like(weights, make, bool(version.signature.classes))
    fill(module, weights)
    return Body("network", module, kept["arch"], features)
