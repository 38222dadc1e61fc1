"""A preparation for a graph, which has its own within: what a student of the graph is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from modelmill.compress.distill.layout import fitted
from modelmill.dataset import Dataset
from modelmill.errors import ModelError
from modelmill.method import decode
from modelmill.model import Body, Model, Part


def prepared(model: Model, train: Dataset, kind: str) -> Model:
    """The model with a preparation fitted on the rows where it is a graph, so that there are features to learn from.

    kind: "table", "image" or "sequence". Raises ModelError for a file whose outputs nobody has said the meaning of.
    """
    if model.body.kind != "graph":
        return model
    if model.signature.task not in ("classify", "regress"):
        message = f"the file's task is {model.signature.task}: nobody has said which output is to be learned"
        raise ModelError("compress.distill", message, "Import it with a task, classify or regress.")
    made = fitted(train, kind)
    body = replace(model.body, features=made.shape)
    return replace(model, parts=(Part(body, made.fragment),))


def untrained(model: Model, table: Mapping[str, Any], train: Dataset, seed: int) -> Model:
    """A student of a graph: an untrained network of an arch, or a cnn for images and an mlp for all else, if empty."""
    images = any(field.kind == "image" for field in train.fields)
    arch = decode("arch", dict(table) or {"method": "cnn" if images else "mlp"})
    if arch.body != "network":
        message = f"arch.{dict(table)['method']} is no network, and a network learns from a graph here"
        raise ModelError("compress.distill.soft.arch", message, "Name an mlp or a cnn; see distill.tree for a tree.")
    kinds = [kind for kind in ("image", "table", "sequence") if kind in arch.kinds and (images or kind != "image")]
    taught = prepared(model, train, kinds[0] if kinds else "table")
    assert taught.body.features, "a preparation says what it gives"
    network = arch(taught.signature, taught.body.features, seed)
    note = f"an untrained {arch.as_table()['method']} learns from the graph"
    part = Part(Body("network", network, arch.as_table(), taught.body.features), taught.part.prepare)
    return replace(model, parts=(part,), history=(*model.history, note))
