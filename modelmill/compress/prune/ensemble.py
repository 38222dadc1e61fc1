"""The ensembles of trees in an ONNX graph: what each tree adds, and the same ensemble with fewer of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from modelmill.contracts import Array
from modelmill.dataset import Dataset
from modelmill.errors import ModelError
from modelmill.graph.build import tensor
from modelmill.graph.clean import load, stripped
from modelmill.runtime.calls import calls
from modelmill.runtime.session import Session

WHERE = "compress.prune.trees"

OLDER = ("TreeEnsembleClassifier", "TreeEnsembleRegressor")
"""The operators for trees before version 5 of their operator set."""

AVERAGE = 0
"""ONNX's number for the mean of all trees; 1 is their sum."""

ROWS = 2048
"""Rows that run at once: a tree gives a number for each of them."""

OF_NODES = ("nodes_featureids", "nodes_splits", "nodes_modes", "nodes_missing_value_tracks_true", "nodes_hitrates")
"""Attributes with a value an inner node, that is no place in the ensemble."""

TENSORS = ("nodes_splits", "nodes_modes", "nodes_hitrates", "leaf_weights")
"""Attributes that are tensors; other arrays are lists of whole numbers."""


@dataclass(frozen=True, eq=False)
class Ensemble:
    """One node TreeEnsemble of a model.

    Either each leaf adds its weight to one output, or it says its own number, and a table holds what it adds.
    """

    model: Any
    """The ONNX model, to be changed by `cut` alone."""
    node: Any
    table: Any
    """The initializer with a row a leaf; None where leaves add their weights themselves."""
    attributes: dict[str, Any]
    """Name: array or number."""
    mean: bool = False
    """Whether the mean over the rows of the table is taken after the node."""

    @property
    def trees(self) -> int:
        """How many trees it has."""
        return len(self.attributes["tree_roots"])

    @property
    def average(self) -> bool:
        """Whether the mean over trees is taken, in the node or after it."""
        return self.mean or int(self.attributes["aggregate_function"]) == AVERAGE

    def values(self) -> Array:
        """(leaves, outputs) what each leaf adds before trees are added or averaged."""
        if self.table is not None:
            return np.asarray(numpy_helper.to_array(self.table), np.float64)
        weights = self.attributes["leaf_weights"].astype(np.float64)
        found = np.zeros((len(weights), int(self.attributes["n_targets"])))
        found[np.arange(len(weights)), self.attributes["leaf_targetids"]] = weights
        return found

    def owners(self) -> tuple[Array, Array]:
        """(inner nodes,) and (leaves,) the tree that each belongs to."""
        inner = np.full(len(self.attributes["nodes_featureids"]), -1)
        leaves = np.full(len(self.attributes["leaf_weights"]), -1)
        ahead = [(int(root), tree) for tree, root in enumerate(self.attributes["tree_roots"])]
        while ahead:
            place, tree = ahead.pop()
            inner[place] = tree
            for side in ("true", "false"):
                child = int(self.attributes[f"nodes_{side}nodeids"][place])
                if self.attributes[f"nodes_{side}leafs"][place]:
                    leaves[child] = tree
                else:
                    ahead.append((child, tree))
        return inner, leaves

    def reached(self, data: Dataset) -> Array:
        """(rows, trees) the number of the leaf that each row comes to in each tree."""
        _, owners = self.owners()
        probe = type(self.model)()
        probe.CopyFrom(self.model)
        at = list(self.model.graph.node).index(self.node)
        asked = _node(self.node, {
            **self.attributes,
            "leaf_targetids": owners,
            "leaf_weights": np.arange(len(owners), dtype=np.float32),
            "n_targets": self.trees,
            "aggregate_function": 1,
        })  # fmt: skip
        asked.output[0] = "leaf"
        del probe.graph.node[at:], probe.graph.output[:]
        probe.graph.node.append(asked)
        probe.graph.output.append(helper.make_tensor_value_info("leaf", 1, [None, self.trees]))
        session = Session(stripped(probe))
        return np.concatenate([session.run(call)["leaf"] for call in calls(session, data, ROWS)]).astype(np.int64)

    def cut(self, kept: Array, weights: Array) -> None:
        """Leave only some trees, in place, each counting so many times as much; `kept` rises."""
        inner_of, leaf_of = self.owners()
        inner, leaves = (np.flatnonzero(np.isin(of, kept)) for of in (inner_of, leaf_of))
        scale = np.zeros(self.trees)
        scale[kept] = weights * (len(kept) / self.trees if self.average else 1.0)
        attributes = dict(self.attributes)
        for name in OF_NODES:
            if name in attributes:
                attributes[name] = attributes[name][inner]
        for side in ("true", "false"):
            leaf = attributes[f"nodes_{side}leafs"][inner]
            child = attributes[f"nodes_{side}nodeids"][inner]
            attributes[f"nodes_{side}leafs"] = leaf
            attributes[f"nodes_{side}nodeids"] = np.where(
                leaf, np.searchsorted(leaves, child), np.searchsorted(inner, child)
            )
        attributes["tree_roots"] = np.searchsorted(inner, attributes["tree_roots"][kept])
        if self.table is None:
            attributes["leaf_targetids"] = attributes["leaf_targetids"][leaves]
            scaled = attributes["leaf_weights"][leaves] * scale[leaf_of[leaves]]
            attributes["leaf_weights"] = scaled.astype(np.float32)
        else:
            attributes["leaf_targetids"] = np.searchsorted(kept, leaf_of[leaves])
            attributes["leaf_weights"] = np.arange(len(leaves), dtype=np.float32)
            attributes["n_targets"] = len(kept)
            scaled = self.values()[leaves] * scale[leaf_of[leaves], None]
            self.table.CopyFrom(tensor(self.table.name, scaled.astype(np.float32)))
        self.node.CopyFrom(_node(self.node, attributes))


def ensemble(data: bytes) -> Ensemble | None:
    """The ensemble of trees in an ONNX file; None where there is none. Raises ModelError for one that cannot be cut."""
    model = load(data)
    found = [node for node in model.graph.node if node.op_type == "TreeEnsemble"]
    if older := next((node.op_type for node in model.graph.node if node.op_type in OLDER), ""):
        raise ModelError(WHERE, f"trees in an operator {older}, which is not taken apart", "Leave this step out.")
    if not found:
        return None
    if len(found) > 1:
        raise ModelError(WHERE, f"the graph holds {len(found)} ensembles of trees", "Leave this step out.")
    node = found[0]
    attributes = {
        attribute.name: numpy_helper.to_array(attribute.t)
        if attribute.HasField("t")
        else np.asarray(attribute.ints)
        if attribute.ints
        else attribute.i
        for attribute in node.attribute
    }
    if "membership_values" in attributes:
        raise ModelError(WHERE, "trees that ask for membership in a set", "Leave this step out.")
    attributes.setdefault("aggregate_function", 1)
    if int(attributes["aggregate_function"]) > 1:
        raise ModelError(WHERE, "trees of which the least or the largest counts", "Leave this step out.")
    if int(attributes.get("post_transform", 0)):
        raise ModelError(WHERE, "trees with a transformation of their own", "Leave this step out.")
    table, mean = _table(model, node, len(attributes["tree_roots"]))
    return Ensemble(model, node, table, attributes, mean)


def _table(model: Any, node: Any, trees: int) -> tuple[Any, bool]:
    """The table that the leaves' numbers are looked up in, and whether the mean over trees is taken of it."""
    reader = {name: other for other in model.graph.node for name in other.input}
    cast = reader.get(node.output[0])
    gather = reader.get(cast.output[0]) if cast is not None and cast.op_type == "Cast" else None
    reduce = reader.get(gather.output[0]) if gather is not None and gather.op_type == "Gather" else None
    if gather is None or cast is None:
        return None, False
    table = next((value for value in model.graph.initializer if value.name == gather.input[0]), None)
    if reduce is None or reduce.op_type not in ("ReduceMean", "ReduceSum") or table is None:
        raise ModelError(WHERE, f"what becomes of {trees} trees is not followed", "Leave this step out.")
    return table, reduce.op_type == "ReduceMean"


def _node(node: Any, attributes: dict[str, Any]) -> Any:
    """A node as the one given, with other attributes."""
    made = type(node)()
    made.CopyFrom(node)
    del made.attribute[:]
    for name in sorted(attributes):
        value = attributes[name]
        if isinstance(value, np.ndarray):
            value = tensor("", value) if name in TENSORS else value.astype(int).tolist()
        made.attribute.append(helper.make_attribute(name, value))
    return made
