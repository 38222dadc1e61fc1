"""The shapes of what goes in and comes out of the service, as JSON Schema, beside the models' own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Table = dict[str, Any]


def reference(schema: str) -> Table:
    """A schema of this file, by its name."""
    return {"$ref": f"#/components/schemas/{schema}"}


def shaped(properties: Table, required: Sequence[str] | None = None) -> Table:
    """An object with these properties; all of them are required unless it is said which."""
    return {"type": "object", "properties": properties, "required": list(properties if required is None else required)}


TEXT: Table = {"type": "string"}
SHAPE: Table = {"type": "array", "items": {"type": "integer"}}
TENSOR: Table = {
    "name": TEXT,
    "datatype": TEXT,
    "shape": SHAPE,
    "parameters": {"type": "object"},
    "data": {"type": "array"},
}

PERCENT: Table = {"type": "number", "exclusiveMinimum": 0, "maximum": 100}
ROLLOUT = {
    "type": "object",
    "required": ["version"],
    "additionalProperties": False,
    "properties": {
        "version": {"type": "integer", "minimum": 1},
        "steps": {"type": "array", "items": PERCENT, "minItems": 1, "maxItems": 100},
        "shadow": {"type": "boolean"},
        "pairs": {"type": "integer", "minimum": 0},
        "requests": {"type": "integer", "minimum": 0},
        "seconds": {"type": "number", "minimum": 0},
        "by": TEXT,
        "notes": {"type": "string", "maxLength": 4000},
        "mirror": PERCENT,
        **{name: {"type": "number", "minimum": 0} for name in ("errors", "slower", "tail", "differ", "near", "level")},
    },
}
ROUTE = {"type": "object", "required": ["method"], "properties": {"method": TEXT}}

SCHEMAS: Table = {
    "Any": {},
    "Error": shaped({"error": TEXT}),
    "Health": shaped({"live": {"type": "boolean"}, "ready": {"type": "boolean"}}, []),
    "ServerMetadata": shaped({"name": TEXT, "version": TEXT, "extensions": {"type": "array", "items": TEXT}}),
    "ModelMetadata": shaped(
        {
            "name": TEXT,
            "versions": {"type": "array", "items": TEXT},
            "platform": TEXT,
            "inputs": {"type": "array", "items": shaped({"name": TEXT, "datatype": TEXT, "shape": SHAPE})},
            "outputs": {"type": "array", "items": shaped({"name": TEXT, "datatype": TEXT, "shape": SHAPE})},
        }
    ),
    "ModelReady": shaped({"name": TEXT, "ready": {"type": "boolean"}}),
    "Tensor": shaped(TENSOR, ["name", "datatype", "shape"]),
    "InferenceRequest": shaped(
        {
            "id": TEXT,
            "parameters": {"type": "object"},
            "inputs": {"type": "array", "items": reference("Tensor")},
            "outputs": {"type": "array", "items": shaped({"name": TEXT, "parameters": {"type": "object"}}, ["name"])},
        },
        ["inputs"],
    ),
    "InferenceResponse": shaped(
        {
            "model_name": TEXT,
            "model_version": TEXT,
            "id": TEXT,
            "outputs": {"type": "array", "items": reference("Tensor")},
        },
        ["model_name", "outputs"],
    ),
    "ModelConfig": shaped(
        {
            "name": TEXT,
            "platform": TEXT,
            "backend": TEXT,
            "max_batch_size": {"type": "integer"},
            "input": {"type": "array", "items": shaped({"name": TEXT, "data_type": TEXT, "dims": SHAPE})},
            "output": {"type": "array", "items": shaped({"name": TEXT, "data_type": TEXT, "dims": SHAPE})},
        }
    ),
    "ModelStatistics": shaped(
        {"model_stats": {"type": "array", "items": {"type": "object", "required": ["name", "version"]}}}
    ),
    "RepositoryIndex": {
        "type": "array",
        "items": shaped({"name": TEXT, "version": TEXT, "state": TEXT, "reason": TEXT}),
    },
    "Prediction": shaped(
        {
            "model": TEXT,
            "version": {"type": "integer"},
            "predictions": {
                "type": "array",
                "items": {"type": "object", "examples": [{"label": "a", "probabilities": {"a": 0.9, "b": 0.1}}]},
            },
        }
    ),
}
"""The shapes of what goes in and comes out, beside the models' own."""
