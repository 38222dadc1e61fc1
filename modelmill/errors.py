"""Everything that can go wrong, as one tree; no error here knows of HTTP or of exit codes.

MillError
├── UsageError              the command line, the spec or a column name is wrong
│   ├── UnknownName         no method, metric, limit, target or set of that name
│   ├── OutOfBounds         a setting's value or type is not allowed
│   └── SpecError           the spec as a whole cannot be run
├── DataError               a file or its content cannot be used
│   ├── SourceError         the file is missing, unreadable or not what it says
│   └── ContentError        the rows are read, but no model can be made of them
├── ModelError              a model cannot be converted, compressed or run
│   └── OutOfMemory         a run needs more memory than there is
├── RegistryError           the registry refuses
│   ├── UnknownModel        no such name, version or alias
│   ├── Tampered            stored bytes are not the bytes that were published
│   └── StorageError        the disk or the database refuses
├── WorkError               work was started and failed
│   └── TrialError          one trial crashed, hung or grew too large
├── GoalError               the budget ended and nothing keeps the limits
├── RequestError            a request to a served model is wrong
│   ├── Unidentified        nobody who may use the service is known to have sent it
│   ├── Forbidden           whoever sent it may not ask for that
│   ├── NotServed           the service has no such model or version
│   ├── Unavailable         the model is there, and cannot be loaded
│   ├── Overloaded          the service cannot take the request now
│   │   ├── Draining        the service is about to end
│   │   └── OverQuota       its sender has asked for more than agreed
│   ├── DeadlineExceeded    the time that the request allows has passed
│   └── TooLarge            the request is over a stated size
└── MissingExtra            an optional library is not installed
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

CLOSE = 0.65
"""How much of two names must be alike: of `nope` and `i_open` it is 0.6."""


def close_names(name: str, known: Iterable[str], most: int = 1) -> list[str]:
    """Those of the names that somebody may have meant who wrote another, the closest first.

    >>> close_names("flower", ["flowers", "lower"], 2), close_names("nope", ["i_open"])
    (['flowers', 'lower'], [])
    """
    return get_close_matches(name, list(known), n=most, cutoff=CLOSE)


class MillError(Exception):
    """An error that says where, what came, what was wanted, and what to try."""

    code = "error"

    def __init__(self, where: str, message: str, hint: str = "") -> None:
        super().__init__(where, message, hint)
        self.where = where
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        head = f"{self.where}: {self.message}" if self.where else self.message
        if not self.hint:
            return head
        return f"{head}{'' if head.endswith(('.', '?', '!')) else '.'} {self.hint}"

    def as_json(self) -> dict[str, str]:
        """The error as the value of the key `error` in every JSON answer."""
        return {"code": self.code, "where": self.where, "message": self.message, "try": self.hint}


class UsageError(MillError):
    """The command line, the spec or a column name is wrong."""

    code = "usage"


class UnknownName(UsageError):
    """Nothing of that name; the hint lists the closest names."""

    code = "unknown_name"

    @classmethod
    def among(cls, where: str, what: str, name: str, known: Iterable[str]) -> UnknownName:
        """An error for `name`, which is no `what`, with the closest of the `known` names."""
        names = sorted(known)
        close = close_names(name, names, 3)
        if close:
            hint = f"Did you mean {' or '.join(close)}?"
        elif names:
            shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
            hint = f"Known: {shown}."
        else:
            hint = ""
        return cls(where, f"no {what} named {name!r}", hint)


class OutOfBounds(UsageError):
    """A setting's value or type is not allowed."""

    code = "out_of_bounds"


class SpecError(UsageError):
    """The spec as a whole cannot be run."""

    code = "spec"


class DataError(MillError):
    """A file or its content cannot be used."""

    code = "data"


class SourceError(DataError):
    """The file is missing, unreadable or not what it says."""

    code = "source"


class ContentError(DataError):
    """The rows are read, but no model can be made of them."""

    code = "content"


class ModelError(MillError):
    """A model cannot be converted, compressed or run."""

    code = "model"


class OutOfMemory(ModelError):
    """A run needs more memory than there is."""

    code = "out_of_memory"


class RegistryError(MillError):
    """The registry refuses."""

    code = "registry"


class UnknownModel(RegistryError):
    """No such name, version or alias."""

    code = "unknown_model"


class Tampered(RegistryError):
    """Stored bytes are not the bytes that were published."""

    code = "tampered"


class StorageError(RegistryError):
    """The disk or the database refuses."""

    code = "storage"


class WorkError(MillError):
    """Work was started and failed."""

    code = "work"


class TrialError(WorkError):
    """One trial crashed, hung or grew too large."""

    code = "trial"


class GoalError(MillError):
    """The budget ended and nothing keeps the limits."""

    code = "goal"


class RequestError(MillError):
    """A request to a served model is wrong."""

    code = "request"


class Unidentified(RequestError):
    """Nobody who may use the service is known to have sent the request."""

    code = "unidentified"


class Forbidden(RequestError):
    """Whoever sent the request may not ask for that."""

    code = "forbidden"


class NotServed(RequestError):
    """The service has no such model or version."""

    code = "not_served"


class Unavailable(RequestError):
    """The model is there, and cannot be loaded."""

    code = "unavailable"


class Overloaded(RequestError):
    """The service cannot take the request now; `seconds` says in how many the same request would be taken."""

    code = "overloaded"

    def __init__(self, where: str, message: str, hint: str = "", seconds: float = 1.0) -> None:
        super().__init__(where, message, hint)
        self.seconds = seconds


class Draining(Overloaded):
    """The service is about to end."""

    code = "draining"


class OverQuota(Overloaded):
    """The sender of the request has asked for more than agreed."""

    code = "over_quota"


class DeadlineExceeded(RequestError):
    """The time that the request allows has passed."""

    code = "deadline_exceeded"


class TooLarge(RequestError):
    """The request is over a stated size."""

    code = "too_large"


class MissingExtra(MillError):
    """An optional library is not installed."""

    code = "missing_extra"

    @classmethod
    def of(cls, where: str, library: str, extra: str) -> MissingExtra:
        """An error for `library`, which `modelmill[extra]` would bring."""
        return cls(where, f"{library} is not installed", f"Try: pip install 'modelmill[{extra}]'")
