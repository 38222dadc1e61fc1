"""Whether a second teacher speaks of the same thing: the same task and classes, from columns that are there."""

from __future__ import annotations

from collections.abc import Iterable

from modelmill.errors import ModelError
from modelmill.signature import Field, Signature

WHERE = "compress.distill.merge"


def order(mine: Signature, theirs: Signature, fields: Iterable[Field]) -> list[int]:
    """Where in a second teacher's classes each of the model's is.

    fields: the columns of the data. Raises ModelError, naming the difference, for another task, other classes, or
    inputs that the data have not.
    """
    if mine.task != theirs.task or set(mine.classes) != set(theirs.classes):
        message = (
            f"the second teacher knows {theirs.task} of {_shown(theirs.classes)}, the model {_shown(mine.classes)}"
        )
        raise ModelError(WHERE, message, "Both must know the same classes.")
    lacking = sorted({field.name for field in theirs.inputs} - {field.name for field in fields})
    if lacking:
        message = f"the second teacher takes the column {lacking[0]!r}, which the data have not"
        raise ModelError(WHERE, message, "Name a model that was made of data with the same columns.")
    return [list(theirs.classes).index(label) for label in mine.classes]


def _shown(classes: tuple[str | int, ...]) -> str:
    first = ", ".join(map(str, classes[:5]))
    return f"{len(classes)} classes ({first}{', ...' if len(classes) > 5 else ''})" if classes else "values"
