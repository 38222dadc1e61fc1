"""Looks whether a model's inputs and outputs can stand in one graph."""

from __future__ import annotations

from modelmill.errors import SpecError
from modelmill.signature import Signature


def check_names(signature: Signature) -> None:
    """Refuse a column that is called as one of the outputs is: in a graph a name stands for one value.

    Raises SpecError, which names the column.
    """
    outputs = {field.name for field in signature.outputs}
    for field in signature.inputs:
        if field.name in outputs:
            message = f"the column {field.name!r} has the name of an output of {signature.task}"
            raise SpecError("data", message, "Rename the column.")
