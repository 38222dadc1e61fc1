"""What a caller may read of texts that name models, such as the notes of a pipeline: not the names of another's."""

from __future__ import annotations

import re
from copy import copy
from typing import TypeVar, cast

from modelmill.errors import MillError, StorageError
from modelmill.serve.access.caller import Caller

T = TypeVar("T")

REFERENCE = re.compile(r"(?<![A-Za-z0-9._-])([A-Za-z0-9][A-Za-z0-9._-]{0,99})@[0-9]+(?![A-Za-z0-9])")
HIDDEN = "another model"


def veiled(value: T, caller: Caller) -> T:
    """A text, or a document with all texts in it, in which no NAME@NUMBER stands that does not exist for the caller."""
    if caller.sight.everything:
        return value
    found: object = value
    if isinstance(value, str):
        found = REFERENCE.sub(lambda at: at[0] if caller.sees(at[1]) else HIDDEN, value)
    elif isinstance(value, dict):
        found = {key: veiled(part, caller) for key, part in value.items()}
    elif isinstance(value, list):
        found = [veiled(part, caller) for part in value]
    return cast("T", found)


def outward(error: MillError) -> MillError:
    """An error as it may be told to whoever asks: where the service keeps its data is its operator's to know."""
    if not isinstance(error, StorageError):
        return error
    what = error.message.partition(":")[0]
    return StorageError("service", what, "What `modelmill serve` writes to standard error says why.")


def veiled_error(error: MillError, caller: Caller) -> MillError:
    """An error without what it says of a model that does not exist for the caller: a step of a pipeline, say."""
    where = veiled(error.where, caller)
    if where == error.where:
        return error
    told = copy(error)
    told.where, told.message, told.hint = where, error.message.partition(":")[0], ""
    return told
