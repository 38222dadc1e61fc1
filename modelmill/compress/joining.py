"""Joins ONNX files: what one writes the next reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from modelmill.compress.quantize.stored import upgrade
from modelmill.errors import ModelError
from modelmill.fragment import ML
from modelmill.graph.scopes import reads


def needed(nodes: Iterable[Any], outputs: Iterable[str]) -> list[Any]:
    """The nodes that outputs need, in their order."""
    wanted, kept = set(outputs), []
    for node in reversed(list(nodes)):
        if wanted.intersection(node.output):
            wanted.update(reads(node))
            kept.append(node)
    return kept[::-1]


def followed(first: Any, last: Any) -> None:
    """Let a second model go on where the first ends, in place: it reads values of the first by their names."""
    first.graph.node.extend(last.graph.node)
    first.graph.initializer.extend(last.graph.initializer)
    del first.graph.output[:]
    first.graph.output.extend(last.graph.output)


def alike(models: Iterable[Any]) -> list[Any]:
    """The models without functions of their own, all in the newest of their versions of ONNX's operators.

    Raises ModelError where one cannot be brought there.
    """
    from onnx.inliner import inline_local_functions

    whole = [inline_local_functions(model) if model.functions else model for model in models]
    newest = max(entry.version for model in whole for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return [upgrade(model, newest) for model in whole]


def opsets(model: Any, others: Iterable[Any], where: str) -> None:
    """Take in the operator sets of other graphs: the newest where operators are only added from version to version.

    Raises ModelError where two are of different versions of ONNX itself, in which operators change.
    """
    others = list(others)
    versions = {entry.domain: entry.version for entry in model.opset_import}
    for entry in (entry for other in others for entry in other.opset_import):
        known = versions.setdefault(entry.domain, entry.version)
        if known != entry.version and entry.domain != ML:
            message = f"the model has operators of version {known}, and version {entry.version} would be added"
            raise ModelError(where, message, "Convert the model to the newer version first.")
        versions[entry.domain] = max(known, entry.version)
    del model.opset_import[:]
    for domain, version in sorted(versions.items()):
        model.opset_import.add(domain=domain, version=version)
    model.ir_version = max([model.ir_version, *(other.ir_version for other in others)])


def checked(model: Any, where: str) -> bytes:
    """The bytes of a model that was joined. Raises ModelError where ONNX does not allow it."""
    import onnx

    data: bytes = model.SerializeToString(deterministic=True)
    try:
        onnx.checker.check_model(data)
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(where, f"the parts do not make one graph: {reason}", "Leave this step out.") from error
    return data
