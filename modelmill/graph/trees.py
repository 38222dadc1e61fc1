"""Writes ensembles of trees as one ONNX operation, with thresholds that agree exactly on float32 rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelmill.errors import ModelError
from modelmill.fragment import ML, Writer

Array = np.ndarray[Any, Any]


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
    """Write the sum (or average) of the trees, plus `base`; the name of the (rows, width) output."""
    attributes = _nodes(trees) | _targets(trees)
    attributes["n_targets"] = width
    attributes["aggregate_function"] = "AVERAGE" if average else "SUM"
    if base is not None and np.any(base):
        attributes["base_values"] = np.broadcast_to(np.asarray(base, np.float32).ravel(), (width,))
    return writer.op("TreeEnsembleRegressor", [value], attributes, domain=ML)


def round_down(threshold: Array) -> Array:
    """The largest float32 not above each threshold, so that `x <= t` is the same for every float32 x.

    >>> round_down(np.array([0.5, 0.1])).tolist() == [0.5, float(np.nextafter(np.float32(0.1), np.float32(0)))]
    True
    """
    with np.errstate(over="ignore"):
        near = threshold.astype(np.float32)
    return np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float32)


def _nodes(trees: Sequence[Tree]) -> dict[str, Any]:
    sizes = [len(tree.left) for tree in trees]
    leaf = np.concatenate([tree.left for tree in trees]) < 0
    missing = np.concatenate([tree.missing_left for tree in trees]) & ~leaf
    attributes: dict[str, Any] = {
        "nodes_treeids": np.repeat(np.arange(len(trees)), sizes),
        "nodes_nodeids": np.concatenate([np.arange(size) for size in sizes]),
        "nodes_featureids": np.where(leaf, 0, np.concatenate([tree.feature for tree in trees])),
        "nodes_modes": np.where(leaf, b"LEAF", b"BRANCH_LEQ").astype(object),
        "nodes_values": np.where(leaf, 0, round_down(np.concatenate([tree.threshold for tree in trees]))),
        "nodes_truenodeids": np.where(leaf, 0, np.concatenate([tree.left for tree in trees])),
        "nodes_falsenodeids": np.where(leaf, 0, np.concatenate([tree.right for tree in trees])),
    }
    if missing.any():
        attributes["nodes_missing_value_tracks_true"] = missing
    return attributes


def _targets(trees: Sequence[Tree]) -> dict[str, Any]:
    """What leaves add to which output; zeros are left out, but every leaf keeps one number."""
    parts: list[tuple[Array, Array, Array, Array]] = []
    for number, tree in enumerate(trees):
        leaves = np.flatnonzero(tree.left < 0)
        values = tree.values[leaves].astype(np.float32)
        keep = values != 0
        keep[:, 0] |= ~keep.any(axis=1)
        row, column = np.nonzero(keep)
        parts.append((np.full(len(row), number), leaves[row], column + tree.first, values[row, column]))
    tree_ids, nodes, targets, weights = (np.concatenate(part) for part in zip(*parts, strict=True))
    return {
        "target_treeids": tree_ids,
        "target_nodeids": nodes,
        "target_ids": targets,
        "target_weights": weights,
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
