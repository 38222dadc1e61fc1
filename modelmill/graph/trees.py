"""Writes ensembles of trees as one ONNX operation, with thresholds that agree exactly on float32 rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelmill.errors import ModelError
from modelmill.fragment import ML, Writer
from modelmill.graph.build import tensor

Array = np.ndarray[Any, Any]

INT64 = 7
"""ONNX's number for the type."""


@dataclass(frozen=True, eq=False)
class Tree:
    """One tree as arrays over its nodes, the root first; a leaf has no left child (-1).

    At an inner node a row goes left where `x[feature] <= threshold`, or x is NaN and `missing_left`.
    """

    feature: Array
    """(nodes,) int"""
    threshold: Array
    """(nodes,) float64"""
    left: Array
    """(nodes,) int"""
    right: Array
    """(nodes,) int"""
    missing_left: Array
    """(nodes,) bool"""
    values: Array
    """(nodes, targets) float64; those of leaves count"""
    first: int = 0
    """The output that the first target adds to."""


def write(trees: Sequence[Tree], width: int, value: str, writer: Writer, *, average: bool, base: Array | None) -> str:
    """Write the sum (or average) of the trees, plus `base`; the name of the (rows, width) output.

    Where every leaf adds to one output alone, one operation does all. Else it says which leaf of each tree a row falls
    in, and the leaves' values are gathered from a table.
    """
    leaves = [np.flatnonzero(tree.left < 0) for tree in trees]
    values = [tree.values[at].astype(np.float32) for tree, at in zip(trees, leaves, strict=True)]
    if all(((part != 0).sum(axis=1) <= 1).all() for part in values):
        targets = np.concatenate([tree.first + abs(part).argmax(1) for tree, part in zip(trees, values, strict=True)])
        weights = np.concatenate([part.sum(axis=1) for part in values])
        raw = _ensemble(trees, targets, weights, width, value, writer, average)
    else:
        raw = _gathered(trees, values, value, writer, average)
    if base is None or not np.any(base):
        return raw
    return writer.op("Add", [raw, writer.constant(np.broadcast_to(np.asarray(base, np.float32).ravel(), (width,)))])


def _gathered(trees: Sequence[Tree], values: Sequence[Array], value: str, writer: Writer, average: bool) -> str:
    """The sum over trees of the row of the leaf that each gives: numbers of leaves are exact in float32 up to 2^24."""
    table = np.concatenate(values)
    if len(table) > 2**24:
        raise ModelError("graph.trees", f"{len(table)} leaves", "Limit the depth, or grow fewer trees.")
    trees_of = np.repeat(np.arange(len(trees)), [len(part) for part in values])
    leaf = _ensemble(trees, trees_of, np.arange(len(table), dtype=np.float32), len(trees), value, writer, False)
    rows = writer.op("Gather", [writer.constant(table), writer.op("Cast", [leaf], {"to": INT64})], {"axis": 0})
    reduce = "ReduceMean" if average else "ReduceSum"
    return writer.op(reduce, [rows, writer.constant([1])], {"keepdims": 0})


def _ensemble(
    trees: Sequence[Tree], targets: Array, weights: Array, width: int, value: str, writer: Writer, average: bool
) -> str:
    """The operation TreeEnsemble; targets and weights are those of all leaves in order."""
    attributes = _nodes(trees) | {
        "leaf_targetids": targets,
        "leaf_weights": tensor("", weights.astype(np.float32)),
        "n_targets": width,
        "aggregate_function": 0 if average else 1,
        "post_transform": 0,
    }
    return writer.op("TreeEnsemble", [value], attributes, domain=ML)


def round_down(threshold: Array) -> Array:
    """The largest float32 not above each threshold, so that `x <= t` is the same for every float32 x.

    >>> round_down(np.array([0.5, 0.1])).tolist() == [0.5, float(np.nextafter(np.float32(0.1), np.float32(0)))]
    True
    """
    with np.errstate(over="ignore"):
        near = threshold.astype(np.float32)
        below = np.nextafter(near, np.float32(-np.inf))
    return np.where(near > threshold, below, near).astype(np.float32)


def _nodes(trees: Sequence[Tree]) -> dict[str, Any]:
    """The inner nodes of all trees; inner nodes and leaves are numbered apart, each through all trees."""
    parts = [_inner(tree) for tree in trees]
    inner = np.cumsum([0, *(len(part["nodes_featureids"]) for part in parts)])
    leaves = np.cumsum([0, *(max((tree.left < 0).sum(), 1) for tree in trees)])
    for part, node, leaf in zip(parts, inner.tolist(), leaves.tolist(), strict=False):
        for side in ("true", "false"):
            part[f"nodes_{side}nodeids"] += np.where(part[f"nodes_{side}leafs"], leaf, node)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    splits, missing = round_down(joined.pop("splits")), joined.pop("missing")
    if missing.any():
        joined["nodes_missing_value_tracks_true"] = missing
    modes = np.zeros(len(splits), np.uint8)
    return joined | {"tree_roots": inner[:-1], "nodes_splits": tensor("", splits), "nodes_modes": tensor("", modes)}


def _inner(tree: Tree) -> dict[str, Array]:
    """The inner nodes of one tree; a tree of one leaf becomes a node that leads there both ways."""
    leaf = tree.left < 0
    if leaf[0]:
        zero = np.zeros(1, np.int64)
        ids = {f"nodes_{side}nodeids": zero.copy() for side in ("true", "false")}
        leafs = {f"nodes_{side}leafs": zero == 0 for side in ("true", "false")}
        return {"nodes_featureids": zero, "splits": np.zeros(1), "missing": zero > 0} | ids | leafs
    # the number of a node among its own kind
    number = np.where(leaf, np.cumsum(leaf), np.cumsum(~leaf)) - 1
    at = np.flatnonzero(~leaf)
    return {
        "nodes_featureids": tree.feature[at],
        "splits": tree.threshold[at],
        "missing": tree.missing_left[at],
        "nodes_truenodeids": number[tree.left[at]],
        "nodes_falsenodeids": number[tree.right[at]],
        "nodes_trueleafs": leaf[tree.left[at]],
        "nodes_falseleafs": leaf[tree.right[at]],
    }


def from_sklearn(tree: Any, scale: float = 1.0, first: int = 0) -> Tree:
    """The tree within a scikit-learn estimator (its `tree_`)."""
    if tree.value.shape[1] != 1:
        raise ModelError("graph.trees", f"a tree of {tree.value.shape[1]} targets", "Fit one model a target.")
    return Tree(
        feature=tree.feature,
        threshold=tree.threshold,
        left=tree.children_left,
        right=tree.children_right,
        missing_left=np.asarray(tree.missing_go_to_left, bool),
        values=tree.value[:, 0, :] * scale,
        first=first,
    )


def from_histogram(nodes: Array, first: int) -> Tree:
    """The tree within a predictor of scikit-learn's histogram boosting (its `nodes`)."""
    leaf = nodes["is_leaf"].astype(bool)
    if nodes["is_categorical"].any():
        raise ModelError("graph.trees", "a split on a category", "One-hot categories before the model.")
    return Tree(
        feature=nodes["feature_idx"],
        threshold=nodes["num_threshold"],
        left=np.where(leaf, -1, nodes["left"].astype(np.int64)),
        right=np.where(leaf, -1, nodes["right"].astype(np.int64)),
        missing_left=nodes["missing_go_to_left"].astype(bool),
        values=nodes["value"][:, None],
        first=first,
    )


def from_lightgbm(text: str, width: int) -> list[Tree]:
    """The trees of a booster's `model_to_string()`, each round with one tree an output."""
    blocks = text.partition("end of trees")[0].split("\nTree=")[1:]
    return [_lightgbm_tree(block, number % width) for number, block in enumerate(blocks)]


def _lightgbm_tree(block: str, first: int) -> Tree:
    """LightGBM numbers inner nodes and leaves apart; leaf k is written as child ~k and becomes node inner + k."""
    table = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
    leaves = np.array(table["leaf_value"].split(), np.float64)
    if len(leaves) == 1:
        none = np.array([-1])
        return Tree(np.zeros(1, int), np.zeros(1), none, none, np.zeros(1, bool), leaves[:, None], first)
    kinds = np.array(table["decision_type"].split(), np.int64)
    threshold = np.array(table["threshold"].split(), np.float64)
    inner, missing = len(threshold), kinds >> 2 & 3
    if (kinds & 1).any() or (missing == 1).any() or table.get("is_linear", "0") != "0":
        raise ModelError("graph.trees", "LightGBM with categories, zero_as_missing or linear trees", "Leave them out.")
    left, right = (np.array(table[side].split(), np.int64) for side in ("left_child", "right_child"))
    left, right = (np.where(child < 0, inner + ~child, child) for child in (left, right))
    default_left = np.where(missing == 2, (kinds & 2) > 0, threshold >= 0)
    none = np.full(len(leaves), -1)
    zero = np.zeros(len(leaves))
    return Tree(
        feature=np.concatenate([np.array(table["split_feature"].split(), np.int64), none]),
        threshold=np.concatenate([threshold, zero]),
        left=np.concatenate([left, none]),
        right=np.concatenate([right, none]),
        missing_left=np.concatenate([default_left, zero > 0]),
        values=np.concatenate([np.zeros(inner), leaves])[:, None],
        first=first,
    )
